import { nextObjectId, openById } from "../ffi/bpf_object.ts";
import { Descriptor } from "../ffi/descriptor.ts";
import { BpfError } from "../ffi/error.ts";
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
export function* listMaps(): Generator<MapInfo, undefined, undefined> {
  for (let id = nextObjectId("map", 0); id !== undefined; id = nextObjectId("map", id)) {
    const info = infoById(id);
    if (info !== undefined) yield info;
  }
  return undefined;
}

/** What the kernel says of a map, or `undefined` when it has gone since its id was read. */
function infoById(id: number): MapInfo | undefined {
  try {
    using descriptor = new Descriptor(openById("map", id), `map ${id}`);
    return readMapInfo(descriptor.fd, descriptor.what);
  } catch (error) {
    if (error instanceof BpfError && error.code === "ENOENT") return undefined;
    throw error;
  }
}
