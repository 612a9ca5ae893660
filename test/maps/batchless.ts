import { closeSync } from "node:fs";
import { t } from "../../src/index.ts";
import { createFromSpec, type MapHandle, openMapHandle } from "../../src/maps/create.ts";
import { SingleTakeMap } from "../../src/maps/keyed_map.ts";
import { DEVMAP_HASH } from "../../src/maps/map_types.ts";

/** An open map of type `devmap_hash`, with any types. */
export class BatchlessMap<K, V> extends SingleTakeMap<K, V, V, "devmap_hash"> {
  constructor(fd: number, types: { readonly key: t.Type<K>; readonly value: t.Type<V> }) {
    const handle: MapHandle = openMapHandle(DEVMAP_HASH, { fd }, {}, types);
    super(handle, types);
  }
}

/**
 * A map of any keys for which the kernel has none of the batch calls: the walk by keys and the single calls do all the work, as
 * they do for any map before kernel 5.6.
 *
 * It is a `devmap_hash`: its keys are free, its values are network interfaces, of which 1 is the loopback's everywhere.
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
