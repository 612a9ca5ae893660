/** @module The types of kernel code: places, the context, results. */

import type { AnyType } from "../maps/map_options.ts";
import type { Program } from "../program/program.ts";
import type { AttachOptions, SectionName } from "../program/section_types.ts";
import type { Inside, KernelBytes } from "../types/type.ts";
import type { KernelStackMap, Scope } from "./scope_types.ts";

/**
 * A place where kernel code can run, by libbpf's name of its section: `"tp/sched/sched_switch"`, `"kprobe/vfs_read"`, `"xdp"`.
 */
export type Place = Exclude<
  SectionName,
  | "tp"
  | "tracepoint"
  | `${"usdt" | "usdt.s" | "struct_ops" | "struct_ops.s"}/${string}`
  | "usdt"
  | "usdt.s"
>;

/** Places that `bpf.attach()` can attach to. Programs of the others are loaded, and then used in other ways. */
export type AttachablePlace = {
  [P in Place]: [AttachOptions<P>] extends [never] ? never : P;
}[Place];

/**
 * The structs of the kernel by name, with their members. A module augments it with those that it uses; all others have members
 * of any type.
 *
 * @example
 * ```ts
 * import type { KernelPointer } from "bun-bpf";
 * declare module "bun-bpf" {
 *   interface KernelTypes {
 *     task_struct: { readonly tgid: number; readonly real_parent: KernelPointer<"task_struct"> };
 *   }
 * }
 * ```
 */
export interface KernelTypes {}

/** The fields of tracepoints by category and name, such as `"sched/sched_switch"`, for modules to augment. */
export interface Tracepoints {}

/** The arguments of raw tracepoints by name, such as `sched_switch` of `"tp_btf/sched_switch"`, for modules to augment. */
export interface RawTracepoints {}

/**
 * The arguments and the result of the kernel's functions by name, for modules to augment: `{ args: { fd: number }; ret: bigint }`.
 * The functions of security hooks are called `bpf_lsm_file_open`, those of iterators `bpf_iter_task`.
 */
export interface KernelFunctions {}

/** Text in kernel code. Its methods are `startsWith`, `endsWith` and `includes`, each with a constant. */
export type KernelText = string & {
  /** Number of bytes. */
  readonly byteLength: number;
};

/** An address in the memory of the kernel or of a process. Reading at a wrong address gives zeros. */
export interface Pointer {
  /** The address as a number. */
  readonly address: bigint;
  /** Reads a string in the kernel's memory. @param max number of bytes at most: 1 to 256, by default 64 */
  kernelString(max?: number): KernelText;
  /** Reads a string in the process's memory. @param max number of bytes at most: 1 to 256, by default 64 */
  userString(max?: number): KernelText;
  /** Reads bytes in the kernel's memory. @param length number of bytes: 1 to 256 */
  kernelBytes(length: number): KernelBytes;
  /** Reads bytes in the process's memory. @param length number of bytes: 1 to 256 */
  userBytes(length: number): KernelBytes;
  /** Reads a value in the kernel's memory. @param index number of values to skip, by default 0 */
  read<X extends AnyType>(type: X, index?: number): Inside<X>;
  /** Reads a value in the process's memory. @param index number of values to skip, by default 0 */
  readUser<X extends AnyType>(type: X, index?: number): Inside<X>;
  /** Returns the address some bytes further. */
  offset(bytes: number | bigint): Pointer;
  /** Returns the address as that of a struct of the kernel. */
  as<Name extends keyof KernelTypes | (string & {})>(name: Name): KernelPointer<Name>;
  /** Returns the address of the struct that contains what is at this address. */
  containerOf<Name extends keyof KernelTypes | (string & {})>(
    name: Name,
    member: string,
  ): KernelPointer<Name>;
}

/** A 64-bit field of a tracepoint, which may be an address: a number with the methods of pointers. */
export type Address = bigint & Pointer;

/** An object of the kernel whose type is not declared: it has members of any type. */
export interface KernelObject extends Pointer {
  readonly [member: string]: any;
}

/** A pointer to a struct of the kernel: its members, if {@link KernelTypes} has them, and the methods of pointers. */
export type KernelPointer<Name> = Name extends keyof KernelTypes
  ? KernelTypes[Name] & Omit<Pointer, keyof KernelTypes[Name]>
  : KernelObject;

/** Arguments of any name and type. */
interface AnyArguments {
  readonly [name: string]: any;
}

type ArgumentsOf<Table, Name> = Name extends keyof Table ? Table[Name] : AnyArguments;
type FunctionPart<Name, Part extends "args" | "ret"> = Name extends keyof KernelFunctions
  ? KernelFunctions[Name] extends { readonly [P in Part]: infer X }
    ? X
    : undefined
  : Part extends "args"
    ? AnyArguments
    : any;

/** The members that the context has in each place. */
export interface CommonContext {
  /** Id of the process, as this process sees it. */
  readonly pid: number;
  /** Id of the thread, as this process sees it. */
  readonly tid: number;
  /** Id of the process in the first PID namespace. */
  readonly hostPid: number;
  /** True if the code runs in this process. */
  readonly isSelf: boolean;
  /** Id of the user. */
  readonly uid: number;
  /** Id of the group. */
  readonly gid: number;
  /** Name of the thread. */
  readonly comm: KernelText;
  /** The current task. */
  readonly task: KernelPointer<"task_struct">;
  /** Records the stack of the kernel in a map. Returns its id; a negative number if that fails. */
  kernelStack(map: KernelStackMap): number;
  /** Records the stack of the process in a map. Returns its id; a negative number if that fails. */
  userStack(map: KernelStackMap): number;
  /** Sends a signal to the current process. Returns false if that fails. */
  signal(number: number): boolean;
  /** Nanoseconds since the machine started, without suspension. */
  readonly now: bigint;
  /** Microseconds since the machine started, without suspension. */
  readonly nowUs: number;
  /** Number of the CPU. */
  readonly cpu: number;
  /** A random number of 32 bits. */
  readonly random: number;
  /** Id of the process's cgroup. */
  readonly cgroupId: bigint;
  /** The place where the code runs: its key. */
  readonly probe: string;
}

/** Arguments in a context. */
interface WithArguments<A> {
  /** The arguments by name. */
  readonly args: A;
}

/** The result in the context of a function that has returned. */
interface WithResult<R> {
  /** The result of the function. */
  readonly ret: R;
}

/** The packet of an XDP or tc program. */
export interface Packet {
  /** Number of bytes. */
  readonly length: number;
  /** Returns a view of the bytes at an offset, in place; `undefined` if the packet ends before. */
  at<X extends AnyType>(offset: number, type: X): Inside<X> | undefined;
}

/** The packet of an XDP program. */
export interface XdpPacket extends Packet {
  /** Moves the start of the packet: a negative number makes room in front. Views that were made before cannot be used any more. */
  adjustHead(bytes: number): boolean;
}

/** The members that the context of an XDP program adds. */
export interface XdpContext {
  /** The packet. */
  readonly packet: XdpPacket;
  /** Index of the interface that received the packet. */
  readonly ingress_ifindex: number;
  /** Index of the queue that received the packet. */
  readonly rx_queue_index: number;
  /** Index of the interface that will send the packet, in programs of a DevMap. */
  readonly egress_ifindex: number;
}

/** The members that the context of a tc program adds: the packet, and fields of `struct __sk_buff`. */
export interface TcContext {
  /** The packet. */
  readonly packet: Packet;
  /** Number of bytes of the packet. */
  readonly len: number;
  /** Receiver of the packet: a constant `PACKET_*`. */
  readonly pkt_type: number;
  /** Mark of the packet, which routing and firewall rules can test. */
  readonly mark: number;
  /** Number of the queue, from 1; 0 if none is set. */
  readonly queue_mapping: number;
  /** Protocol of the packet, `ETH_P_*`, in network byte order. */
  readonly protocol: number;
  /** 1 if the packet has a VLAN tag. */
  readonly vlan_present: number;
  /** Tag of the VLAN. */
  readonly vlan_tci: number;
  /** Protocol of the VLAN tag, in network byte order. */
  readonly vlan_proto: number;
  /** Priority of the packet. */
  readonly priority: number;
  /** Index of the interface that received the packet; 0 for packets of this machine. */
  readonly ingress_ifindex: number;
  /** Index of the interface of the packet. */
  readonly ifindex: number;
  /** Index that classifiers and queueing disciplines exchange. */
  readonly tc_index: number;
  /** Hash of the addresses and ports, if it has been computed. */
  readonly hash: number;
  /** Class for the queueing discipline. */
  readonly tc_classid: number;
  /** Id of the NAPI instance that received the packet. */
  readonly napi_id: number;
  /** Time of the packet in nanoseconds. */
  readonly tstamp: bigint;
  /** Number of bytes on the wire. */
  readonly wire_len: number;
  /** Number of segments that the packet will be cut into. */
  readonly gso_segs: number;
  /** Size of the segments that the packet will be cut into. */
  readonly gso_size: number;
}

type XdpPlace = Extract<Place, `xdp${string}`>;
type TcPlace =
  | "action"
  | "classifier"
  | "tc"
  | `${"tc" | "tcx"}/${"ingress" | "egress"}`
  | `netkit/${"primary" | "peer"}`;

/** The members that a place adds to the context. */
type ContextOf<P> = P extends XdpPlace
  ? XdpContext
  : P extends TcPlace
    ? TcContext
    : P extends `${"tp" | "tracepoint"}/${infer Name}`
      ? WithArguments<ArgumentsOf<Tracepoints, Name>>
      : P extends `${"tp_btf" | "raw_tp" | "raw_tracepoint" | "raw_tp.w" | "raw_tracepoint.w"}/${infer Name}`
        ? WithArguments<ArgumentsOf<RawTracepoints, Name>>
        : P extends `${"fentry" | "fentry.s"}/${infer Name}`
          ? WithArguments<FunctionPart<Name, "args">>
          : P extends `${"fexit" | "fmod_ret" | "fsession"}${"" | ".s"}/${infer Name}`
            ? WithArguments<FunctionPart<Name, "args">> & WithResult<FunctionPart<Name, "ret">>
            : P extends `${"lsm" | "lsm.s" | "lsm_cgroup"}/${infer Name}`
              ? WithArguments<FunctionPart<`bpf_lsm_${Name}`, "args">>
              : P extends `${"iter" | "iter.s"}/${infer Name}`
                ? WithArguments<FunctionPart<`bpf_iter_${Name}`, "args">>
                : unknown;

/** The context of kernel code at a place: the first parameter of its functions. */
export type Context<P extends Place> = CommonContext & ContextOf<P>;

/** Results of an XDP program: the fate of the packet. */
export type XdpAction = "aborted" | "drop" | "pass" | "tx" | "redirect";

/** Results of a tc program: the fate of the packet. `"next"` leaves it to the next program. */
export type TcAction = "ok" | "shot" | "pipe" | "next" | "redirect";

/** The result of kernel code at a place. A function of an event returns nothing. */
export type Result<P extends Place> = P extends XdpPlace
  ? XdpAction | number
  : P extends TcPlace
    ? TcAction | number
    : P extends "sk_lookup"
      ? "pass" | "drop" | number
      : P extends `cgroup${string}`
        ? boolean | number
        : P extends `${"tp_btf" | "fentry" | "fentry.s" | "fexit" | "fexit.s"}/${string}`
          ? undefined
          : number | void;

/** A function of kernel code for a place, with the members `Sc` in its scope. */
export type KernelFunction<P extends Place, Sc> = (ctx: Context<P>, scope: Scope<Sc>) => Result<P>;

/** A function of kernel code, or one with the options of attaching it: those of {@link Program.attach}. */
export type Entry<P extends Place, Sc> =
  | KernelFunction<P, Sc>
  | {
      /** The options of {@link Program.attach}. */
      readonly on: AttachOptions<P>;
      /** The function. */
      readonly run: KernelFunction<P, Sc>;
    };

/**
 * The entry of `bpf.attach()` for a place: like {@link Entry}, but the options cannot be left out where attaching needs some, such
 * as an interface.
 */
export type AttachEntry<P extends Place, Sc> =
  {} extends AttachOptions<P> ? Entry<P, Sc> : Exclude<Entry<P, Sc>, KernelFunction<P, Sc>>;

/** Programs by their places. */
export type Programs<P extends Place> = Disposable & { readonly [K in P]: Program<K> };
