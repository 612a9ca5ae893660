import { describeAll } from "../ffi/bpf_object.ts";
import { type MapInfo, readMapInfo } from "./handle.ts";

/**
 * All maps on the system, whoever made them, in the order of their ids; lazily, one at a time. Maps that come or go
 * meanwhile may be in the list or not.
 *
 * Kernel 4.13, CAP_SYS_ADMIN.
 *
 * @throws {BpfError} `EPERM` without CAP_SYS_ADMIN
 *
 * @example
 * ```ts
 * import { HashMap, listMaps, t } from "bun-bpf";
 * using map = new HashMap({ key: t.u32, value: t.u64, maxEntries: 8, name: "mine" });
 * for (const { id, type, name, maxEntries } of listMaps()) console.log(id, type, name, maxEntries);
 * console.log([...listMaps()].some(({ id }) => id === map.id)); // true
 * ```
 */
export function listMaps(): Generator<MapInfo, undefined, undefined> {
  return describeAll("map", readMapInfo);
}
