import type { MapElement } from "../ffi/map_element.ts";
import { u32 } from "../types/integer.ts";
import {
  descriptorArrayKind,
  type DescriptorArrayOptions,
  noTypes,
} from "./descriptor_array_kind.ts";
import { type DevMapEntry, devMapHints, devMapLayout, type DevMapValue } from "./dev_map_value.ts";
import type { MapHandle } from "./handle.ts";
import { programmedSize } from "./programmed_layout.ts";
import { SparseArrayMap } from "./sparse_array_map.ts";

/** Options of {@link DevMap}. */
export type DevMapOptions = DescriptorArrayOptions;

/**
 * An array of network interfaces that XDP programs send packets out by, with the helper `redirect_map`; each may have a
 * program that sees the packets before.
 *
 * Kernel 4.14, CAP_NET_ADMIN; made here with room for programs, which takes kernel 5.8: an older kernel's maps are opened
 * as they are. An interface that is removed leaves the map. Programs cannot change the map. `delete` looks first, as the
 * kernel does not say whether something was there.
 *
 * @throws {BpfError} `EPERM` without CAP_BPF and CAP_NET_ADMIN, `EINVAL` before kernel 5.8
 * @throws {TypeError | RangeError} for options that are misspelt, of the wrong type or out of range
 *
 * @example
 * ```ts
 * import { DevMap } from "bun-bpf";
 * using ports = new DevMap({ maxEntries: 16, name: "ports" });
 * ports.set(3, "lo");
 * console.log(ports.get(3)); // { ifindex: 1, programId: undefined }
 * console.log(ports.get(0), ports.delete(3), ports.delete(3)); // undefined true false
 * ```
 */
export class DevMap extends SparseArrayMap<DevMapEntry, DevMapValue> {
  /** @internal */
  static readonly kind = descriptorArrayKind("devmap", "DevMap", programmedSize);

  constructor(options: DevMapOptions);
  /** @internal */
  constructor(types: object, existing: MapHandle);
  constructor(options: object, existing = DevMap.kind.create(options)) {
    super(existing, { key: u32, value: devMapLayout(existing.info.valueSize), hints: devMapHints });
  }

  /** Opens the map pinned at a path on a BPF file system (kernel 4.4). @throws as {@link HashMap.open} */
  static open(path: string): DevMap {
    return new DevMap(noTypes, DevMap.kind.open(path, noTypes));
  }

  /** Opens a map by its id (CAP_SYS_ADMIN). @throws as {@link HashMap.open} */
  static fromId(id: number): DevMap {
    return new DevMap(noTypes, DevMap.kind.byId(id, noTypes));
  }

  /** Opens the map behind a descriptor, which stays the caller's: this is a duplicate. @throws as {@link HashMap.open} */
  static fromFd(fd: number): DevMap {
    return new DevMap(noTypes, DevMap.kind.byFd(fd, noTypes));
  }

  override dup(): DevMap {
    return new DevMap(noTypes, this.duplicateHandle());
  }

  /** @internal The kernel deletes what is not there, too, and says nothing. */
  protected override deleteElement(element: MapElement): boolean {
    return element.lookup(0) && element.delete();
  }
}
