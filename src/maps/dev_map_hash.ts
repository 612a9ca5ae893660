import { u32 } from "../types/integer.ts";
import { AssociativeMap } from "./associative_map.ts";
import {
  descriptorArrayKind,
  type DescriptorArrayOptions,
  noTypes,
} from "./descriptor_array_kind.ts";
import { type DevMapEntry, devMapHints, devMapLayout, type DevMapValue } from "./dev_map_value.ts";
import type { ElementOptions } from "./element_map.ts";
import type { MapHandle } from "./handle.ts";
import { programmedSize } from "./programmed_layout.ts";

/** Options of {@link DevMapHash}. */
export interface DevMapHashOptions extends DescriptorArrayOptions {
  /** How many entries it holds at the most: 1 to 2^32 - 1. */
  readonly maxEntries: number;
}

/**
 * Network interfaces that XDP programs send packets out by, with the helper `redirect_map`, under any number as a key: often
 * the interface's own index, which may be larger than a {@link DevMap} should be long.
 *
 * Kernel 5.4, CAP_NET_ADMIN; made here with room for programs, which takes kernel 5.8: an older kernel's maps are opened as
 * they are. Keys are numbers from 0 to 2^32 - 1. An interface that is removed leaves the map. Programs cannot change the map.
 *
 * @throws {BpfError} `EPERM` without CAP_BPF and CAP_NET_ADMIN, `EINVAL` before kernel 5.8
 * @throws {TypeError | RangeError} for options that are misspelt, of the wrong type or out of range
 *
 * @example
 * ```ts
 * import { DevMapHash } from "bun-bpf";
 * using ports = new DevMapHash({ maxEntries: 16, name: "ports" });
 * ports.set(4_000_000_000, "lo");
 * console.log(ports.toMap()); // Map(1) { 4000000000: { ifindex: 1, programId: undefined } }
 * console.log(ports.add(4_000_000_000, 1), ports.add(7, { ifindex: 1 })); // false true
 * ```
 */
export class DevMapHash extends AssociativeMap<number, DevMapEntry, DevMapValue> {
  /** @internal */
  static readonly kind = descriptorArrayKind("devmap-hash", "DevMapHash", programmedSize);

  constructor(options: DevMapHashOptions);
  /** @internal */
  constructor(types: object, existing: MapHandle);
  constructor(options: object, existing = DevMapHash.kind.create(options)) {
    super(existing, { key: u32, value: devMapLayout(existing.info.valueSize), hints: devMapHints });
  }

  /** Opens the map pinned at a path on a BPF file system (kernel 4.4). @throws as {@link HashMap.open} */
  static open(path: string): DevMapHash {
    return new DevMapHash(noTypes, DevMapHash.kind.open(path, noTypes));
  }

  /** Opens a map by its id (CAP_SYS_ADMIN). @throws as {@link HashMap.open} */
  static fromId(id: number): DevMapHash {
    return new DevMapHash(noTypes, DevMapHash.kind.byId(id, noTypes));
  }

  /** Opens the map behind a descriptor, which stays the caller's: this is a duplicate. @throws as {@link HashMap.open} */
  static fromFd(fd: number): DevMapHash {
    return new DevMapHash(noTypes, DevMapHash.kind.byFd(fd, noTypes));
  }

  /**
   * Stores an interface only if the key is present; whether it did. The key is looked up first, as the kernel does not heed
   * the condition: one that another process deletes in between is stored anew.
   */
  override replace(key: number, value: DevMapValue, options?: ElementOptions): boolean {
    if (!this.has(key)) return false;
    this.set(key, value, options);
    return true;
  }

  override dup(): DevMapHash {
    return new DevMapHash(noTypes, this.duplicateHandle());
  }
}
