import { closeSync } from "node:fs";
import { HashMap, t } from "../../src/index.ts";
import { createFromSpec, openMapHandle } from "../../src/maps/create.ts";
import { DEVMAP_HASH } from "../../src/maps/map_types.ts";
import { adopt } from "./adopt.ts";

/**
 * A hash map for which the kernel has none of the batch calls: the walk by keys and the single calls do all the work, as
 * they do for any map before kernel 5.6.
 *
 * It is a `devmap_hash`: its keys are free, its values are network interfaces, of which 1 is the loopback's everywhere.
 */
export function batchlessMap(maxEntries: number): HashMap<typeof t.u32, typeof t.u32> {
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
    return adopt(
      HashMap<typeof t.u32, typeof t.u32>,
      openMapHandle(DEVMAP_HASH, { fd }, {}, { key: t.u32, value: t.u32 }),
    );
  } finally {
    closeSync(fd);
  }
}
