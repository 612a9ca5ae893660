import { closeSync } from "node:fs";
import { t } from "../../src/index.ts";
import { createFromSpec, type MapHandle, openMapHandle } from "../../src/maps/create.ts";
import { SingleTakeMap } from "../../src/maps/keyed_map.ts";
import { DEVMAP_HASH } from "../../src/maps/map_types.ts";

/** Class of open `devmap_hash` maps with any key and value types. */
export class BatchlessMap<K, V> extends SingleTakeMap<K, V, V, "devmap_hash"> {
  constructor(fd: number, types: { readonly key: t.Type<K>; readonly value: t.Type<V> }) {
    const handle: MapHandle = openMapHandle(DEVMAP_HASH, { fd }, {}, types);
    super(handle, types);
  }
}

/**
 * Returns a map with keys of any type for which the kernel has no batches: it is walked key by key and uses single calls, as all
 * maps did before Linux 5.6.
 *
 * It is a `devmap_hash`: keys are arbitrary, and values are network interfaces. 1 is the loopback interface.
 */
export function batchlessMap(maxEntries: number): BatchlessMap<number, number> {
  const sizes = { keySize: 4, valueSize: 4, maxEntries };
  const fd = createFromSpec(DEVMAP_HASH, {
    type: "devmap_hash",
    ...sizes,
    flags: 0,
    numaNode: -1,
    name: "batchless",
    mapExtra: 0,
  });
  try {
    return new BatchlessMap(fd, { key: t.u32, value: t.u32 });
  } finally {
    closeSync(fd);
  }
}
