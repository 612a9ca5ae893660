/** @module Maps that XDP programs redirect packets with: to network interfaces, to CPUs and to AF_XDP sockets. */

import { CPUMAP, DEVMAP, DEVMAP_HASH, XSKMAP } from "./map_types.ts";
import { checkCount, checkOptions } from "../check/arguments.ts";
import { describe } from "../check/describe.ts";
import type { Hints } from "../ffi/bpf_map.ts";
import { interfaceIndex } from "../ffi/socket.ts";
import { SparseArrayMap, WriteOnlyArrayMap } from "./descriptor_array.ts";
import type { ElementOptions } from "./elements.ts";
import { SingleTakeMap } from "./keyed_map.ts";
import {
  cpuArrayKind,
  type CpuArrayOptions,
  descriptorArrayKind,
  type DescriptorArrayOptions,
  type DescriptorHashOptions,
  MapKind,
} from "./map_options.ts";
import { checkMaxEntries } from "./map_spec.ts";
import { type FdLike, idLayout, RedirectLayout, redirectValueSize } from "./value_layout.ts";
import { u32 } from "../types/integer.ts";
import { BPF_EXIST, BPF_NOEXIST } from "../uapi/bpf.ts";

declare module "./map_options.ts" {
  interface MapClasses<T> {
    DevMap: DevMap;
    DevMapHash: DevMapHash;
    CpuMap: CpuMap;
    XskMap: XskMap;
  }
}

/** A network interface of this process's network namespace: its index or its name, such as `1` or `"lo"`. */
export type NetworkInterface = number | string;

/** A value that is stored in a {@link DevMap} or {@link DevMapHash}: an interface, alone or with a program. */
export type DevMapValue =
  | NetworkInterface
  | {
      /** The interface that packets are sent out by. */
      readonly ifindex: NetworkInterface;
      /**
       * An XDP program that sees each packet before it is sent, loaded for the attachment `BPF_XDP_DEVMAP` (libbpf's section
       * `xdp/devmap`).
       */
      readonly program?: FdLike | undefined;
    };

/** A value that is read from a {@link DevMap} or {@link DevMapHash}. */
export interface DevMapEntry {
  /** The index of the interface. */
  readonly ifindex: number;
  /** The id of the program that sees the packets, or `undefined` for none. */
  readonly programId: number | undefined;
}

/** Hints for failed stores of interfaces. */
const devMapHints: Hints = {
  EINVAL:
    "This network namespace has no interface of that index (`ip link` lists those that it has), or the program is none of type XDP that was loaded for devmaps (attachment BPF_XDP_DEVMAP)",
};

/** The layout of the values of a map of interfaces, with so many bytes each. */
function devMapLayout(size: number): RedirectLayout<DevMapEntry, DevMapValue> {
  return new RedirectLayout(size, {
    encode(value) {
      if (typeof value !== "object") return { number: interfaceIndexOf(value) };
      checkOptions("interface", value, ["ifindex", "program"]);
      return { number: interfaceIndexOf(value.ifindex), program: value.program };
    },
    decode: (ifindex, programId) => ({ ifindex, programId }),
  });
}

function interfaceIndexOf(device: NetworkInterface): number {
  if (typeof device === "string") {
    if (device === "" || device.includes("\0")) {
      throw new TypeError(
        `ifindex: expected the name of a network interface, such as "eth0", got ${describe(device)}`,
      );
    }
    return interfaceIndex(device);
  }
  if (typeof device !== "number") {
    throw new TypeError(
      `ifindex: expected the index or the name of a network interface, got ${describe(device)}`,
    );
  }
  // The kernel would take 0 for a deletion.
  checkCount("ifindex", device, 1);
  return device;
}

/** Options of {@link DevMap}. */
export type DevMapOptions = DescriptorArrayOptions;

/**
 * An array of network interfaces to which XDP programs redirect packets with the helper `redirect_map`. Each may have a
 * program that sees these packets first.
 *
 * Kernel 4.14, CAP_NET_ADMIN; creation needs kernel 5.8, for values with room for a program. Maps without that room can be
 * opened. An interface that is removed leaves the map. Programs cannot change the map. `delete` looks first, as the kernel
 * does not say whether something was there.
 *
 * @throws {BpfError} `EPERM` without CAP_BPF and CAP_NET_ADMIN, `EINVAL` before kernel 5.8
 * @throws {TypeError | RangeError} for options that are misspelt, of the wrong type or out of range
 *
 * @example
 * ```ts
 * import { DevMap } from "bun-bpf";
 * using ports = new DevMap({ length: 16, name: "ports" });
 * ports.set(3, "lo");
 * console.log(ports.get(3)); // { ifindex: 1, programId: undefined }
 * console.log(ports.get(0), ports.delete(3), ports.delete(3)); // undefined true false
 * ```
 */
export class DevMap extends SparseArrayMap<DevMapEntry, DevMapValue, "devmap"> {
  static readonly kind = /*@__PURE__*/ descriptorArrayKind(DEVMAP, "DevMap", redirectValueSize);

  constructor(options: DevMapOptions) {
    const handle = DevMap.kind.handle(options);
    super(handle, { key: u32, value: devMapLayout(handle.info.valueSize), hints: devMapHints });
  }
}

/** Options of {@link DevMapHash}. */
export type DevMapHashOptions = DescriptorHashOptions;

/**
 * Network interfaces that XDP programs send packets out by, with the helper `redirect_map`, under any number as a key: often
 * the interface's own index, which may be larger than a {@link DevMap} should be long.
 *
 * Kernel 5.4, CAP_NET_ADMIN; creation needs kernel 5.8, for values with room for a program. Maps without that room can be
 * opened. Keys are numbers from 0 to 2^32 - 1. An interface that is removed leaves the map. Programs cannot change the map.
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
export class DevMapHash extends SingleTakeMap<number, DevMapEntry, DevMapValue, "devmap_hash"> {
  static readonly kind = /*@__PURE__*/ new MapKind<"DevMapHash", object, DevMapHashOptions>({
    row: DEVMAP_HASH,
    className: "DevMapHash",
    types: [],
    defaultTypes: {},
    options: ["maxEntries"],
    sizes: () => ({ keySize: u32.size }),
    complete({ maxEntries }) {
      checkMaxEntries(maxEntries);
      return { maxEntries, valueSize: redirectValueSize };
    },
  });

  constructor(options: DevMapHashOptions) {
    const handle = DevMapHash.kind.handle(options);
    super(handle, { key: u32, value: devMapLayout(handle.info.valueSize), hints: devMapHints });
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
}

/** Options of {@link CpuMap}. */
export type CpuMapOptions = CpuArrayOptions;

/** A value that is stored in a {@link CpuMap}. */
export interface CpuMapValue {
  /** The largest number of packets that wait for the CPU: 1 to 16384. */
  readonly queueSize: number;
  /**
   * An XDP program that sees each packet on the CPU it was sent to, loaded for the attachment `BPF_XDP_CPUMAP` (libbpf's
   * section `xdp/cpumap`).
   */
  readonly program?: FdLike | undefined;
}

/** A value that is read from a {@link CpuMap}. */
export interface CpuMapEntry {
  /** The largest number of packets that wait for the CPU. */
  readonly queueSize: number;
  /** The id of the program that sees the packets, or `undefined` for none. */
  readonly programId: number | undefined;
}

/** The kernel's own limit (kernel/bpf/cpumap.c). */
const maxQueueSize = 16384;

const wrongProgramHint =
  "The program is none of type XDP that was loaded for cpumaps (attachment BPF_XDP_CPUMAP)";
const cpuMapHints: Hints = {
  ENODEV: "This machine cannot have a CPU of that number: possibleCpus() lists those that it can",
  ENOMEM: `${wrongProgramHint}, or the kernel has no memory for the queue`,
  // What newer kernels say.
  EINVAL: wrongProgramHint,
  EBADF: `${wrongProgramHint}, or no file is open at that descriptor`,
};

function cpuMapLayout(size: number): RedirectLayout<CpuMapEntry, CpuMapValue> {
  return new RedirectLayout(size, {
    encode(value) {
      checkOptions("queue", value, ["queueSize", "program"]);
      const { queueSize, program } = value;
      // The kernel would take 0 for a deletion.
      checkCount("queueSize", queueSize, 1, maxQueueSize);
      return { number: queueSize, program };
    },
    decode: (queueSize, programId) => ({ queueSize, programId }),
  });
}

/**
 * Queues to other CPUs, that XDP programs send packets to with the helper `redirect_map`, by the number of the CPU: there
 * the network stack goes on with them. Each may have a program that sees the packets before.
 *
 * Kernel 4.15; made here with room for programs, which takes kernel 5.9: an older kernel's maps are opened as they are.
 * The kernel starts a thread for each CPU that is stored. `delete` looks first, as the kernel does not say whether
 * something was there.
 *
 * @throws {BpfError} `EPERM` without CAP_BPF, `EINVAL` before kernel 5.9, `E2BIG` for more entries than the kernel was built
 * for CPUs
 * @throws {TypeError | RangeError} for options that are misspelt, of the wrong type or out of range
 *
 * @example
 * ```ts
 * import { CpuMap } from "bun-bpf";
 * using cpus = new CpuMap({ name: "cpus" });
 * cpus.set(0, { queueSize: 192 });
 * console.log(cpus.get(0)); // { queueSize: 192, programId: undefined }
 * console.log(cpus.delete(0), cpus.delete(0)); // true false
 * ```
 */
export class CpuMap extends SparseArrayMap<CpuMapEntry, CpuMapValue, "cpumap"> {
  static readonly kind = /*@__PURE__*/ cpuArrayKind(CPUMAP, "CpuMap", redirectValueSize);

  constructor(options: CpuMapOptions = {}) {
    const handle = CpuMap.kind.handle(options);
    super(handle, { key: u32, value: cpuMapLayout(handle.info.valueSize), hints: cpuMapHints });
  }
}

/** Options of {@link XskMap}. */
export type XskMapOptions = DescriptorArrayOptions;

const xskHints: Hints = {
  EBADF: "No file is open at that descriptor",
  ENOBUFS:
    "The socket has no memory for packets yet: give it some (XDP_UMEM_REG) and bind it first",
  ENOTSOCK: "It is no socket: a socket of the family AF_XDP is needed",
  EOPNOTSUPP:
    "It is a socket of another family than AF_XDP; older kernels also refuse one that has no receive ring and no memory for packets yet",
};

/**
 * An array of AF_XDP sockets to which XDP programs redirect packets with the helper `redirect_map`, usually by receive
 * queue. User space can store and delete sockets, but not read them.
 *
 * Kernel 4.18, CAP_NET_ADMIN. A socket that is closed leaves the map (kernel 5.3).
 *
 * @throws {BpfError} `EPERM` without CAP_BPF and CAP_NET_ADMIN
 * @throws {TypeError | RangeError} for options that are misspelt, of the wrong type or out of range
 *
 * @example
 * ```ts
 * import { BpfError, XskMap } from "bun-bpf";
 * using sockets = new XskMap({ length: 64, name: "xsks" });
 * try {
 *   sockets.set(0, 0); // a socket of the family AF_XDP would do, standard input does not
 * } catch (error) {
 *   if (error instanceof BpfError) console.log(error.hint);
 * }
 * sockets.unset(0);
 * ```
 */
export class XskMap extends WriteOnlyArrayMap<FdLike, "xskmap"> {
  static readonly kind = /*@__PURE__*/ descriptorArrayKind(XSKMAP, "XskMap", u32.size);

  constructor(options: XskMapOptions) {
    const handle = XskMap.kind.handle(options);
    super(handle, { key: u32, value: idLayout("an AF_XDP socket"), hints: xskHints });
  }

  /** Stores a socket only where none is, or this same one; whether it did (kernel 5.3). @throws as {@link set} */
  add(index: number, socket: FdLike): boolean {
    return this.store(index, socket, BPF_NOEXIST);
  }

  /** Stores a socket only where one is; whether it did (kernel 5.3). @throws as {@link set} */
  replace(index: number, socket: FdLike): boolean {
    return this.store(index, socket, BPF_EXIST);
  }

  /**
   * Empties a place. It is not called `delete`, as the kernel does not tell whether a socket was there.
   *
   * @throws {TypeError | RangeError} for an index outside the map
   */
  unset(index: number): this {
    this.empty(index);
    return this;
  }
}
