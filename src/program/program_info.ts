import {
  describeAll,
  fdNumber,
  bufferedInfo,
  type ObjectInfo,
  objectInfo,
  readFdInfo,
} from "../ffi/bpf_object.ts";
import { enableRunStatistics, type ProgramTypeName, programTypeName } from "../ffi/bpf_prog.ts";
import { boottimeToDate } from "../ffi/clock.ts";
import { BPF_OBJ_NAME_LEN } from "../uapi/bpf.ts";
import { PROG_INFO } from "../uapi/layout.ts";

/** The kernel's information about a program. Fields that an older kernel does not report are `undefined`. */
export interface ProgramInfo {
  /** The id of the program, unique among the loaded programs. */
  readonly id: number;
  /** The type of the program: `"sched_cls"`. */
  readonly type: ProgramTypeName;
  /** The name that the program was loaded with; may be empty. */
  readonly name: string;
  /** Hash of the instructions as 16 hexadecimal digits. Programs with the same instructions have the same tag. */
  readonly tag: string;
  /** True if the program's license is compatible with the GPL (kernel 4.18). */
  readonly gpl: boolean | undefined;
  /** The time at which the program was loaded (kernel 4.15). */
  readonly loadedAt: Date | undefined;
  /** The id of the user who loaded the program, in the initial user namespace (kernel 4.15). */
  readonly uid: number | undefined;
  /** The ids of the maps that the program uses (kernel 4.15). */
  readonly mapIds: readonly number[] | undefined;
  /** The id of the BTF that describes the program's functions; 0 for none (kernel 5.0). */
  readonly btfId: number;
  /**
   * Bytes of machine code; 0 if the kernel interprets the program, and without CAP_BPF (before kernel 5.8 CAP_SYS_ADMIN).
   */
  readonly jitedSize: number;
  /** Bytes of BPF instructions after the verifier has rewritten them; 0 without CAP_BPF (before kernel 5.8 CAP_SYS_ADMIN). */
  readonly translatedSize: number;
  /** Bytes of memory of the program without its machine code, in whole pages; `undefined` if /proc is not mounted. */
  readonly memory: number | undefined;
  /** Number of instructions that the verifier processed, on all paths together (kernel 5.16). */
  readonly verifiedInstructions: number | undefined;
  /**
   * Number of runs while statistics were enabled (kernel 5.1). They are disabled by default; {@link enableStats} and the sysctl
   * kernel.bpf_stats_enabled enable them.
   */
  readonly runCount: number | undefined;
  /** Total duration of the counted runs in nanoseconds (kernel 5.1). */
  readonly runTime: number | undefined;
  /** Number of runs that were skipped because the program was already running on the same CPU (kernel 5.12). */
  readonly recursionMisses: number | undefined;
  /** The function or other type for which the program was loaded, and the id of the BTF that has the type (kernel 6.0). */
  readonly target: { readonly btfId: number; readonly typeId: number } | undefined;
  /** The network interface whose hardware runs the program; `undefined` if the kernel runs it (kernel 4.16). */
  readonly offloadedTo: ProgramInterface | undefined;
}

/** The network interface whose hardware runs a program. */
export interface ProgramInterface {
  /** The index of the interface in its network namespace. */
  readonly index: number;
  /** The inode number of the network namespace. */
  readonly netns: number;
}

/**
 * Reads the kernel's information about a program.
 *
 * @param what a description of the program for errors
 * @throws {BpfError} if the kernel refuses.
 */
export function readProgramInfo(fd: number, what: string): ProgramInfo {
  const mapCount = countMaps(fd, what);
  using info = bufferedInfo(fd, PROG_INFO.sizeof, what, [
    { pointer: PROG_INFO.map_ids, count: PROG_INFO.nr_map_ids, elements: mapCount, elementSize: 4 },
  ]);
  const number = (offset: number) => (info.has(offset) ? info.u32(offset) : undefined);
  const long = (offset: number) => (info.has(offset) ? info.u64Number(offset) : undefined);
  const isSince415 = info.has(PROG_INFO.map_ids);
  return {
    id: info.u32(PROG_INFO.id),
    type: programTypeName(info.u32(PROG_INFO.type)),
    name: info.name(PROG_INFO.name, BPF_OBJ_NAME_LEN),
    tag: info.hex(PROG_INFO.tag, PROG_INFO.jited_prog_len),
    // Older kernels leave this bit unset. `jited_ksyms` came with the same version, and shows that the kernel sets the bit.
    gpl: info.has(PROG_INFO.jited_ksyms) ? info.bit(PROG_INFO.gpl_compatible_bit) : undefined,
    loadedAt: isSince415 ? boottimeToDate(info.u64Number(PROG_INFO.load_time)) : undefined,
    uid: number(PROG_INFO.created_by_uid),
    mapIds: isSince415 ? (mapCount === 0 ? [] : info.u32s(PROG_INFO.map_ids)) : undefined,
    btfId: info.u32(PROG_INFO.btf_id),
    jitedSize: info.u32(PROG_INFO.jited_prog_len),
    translatedSize: info.u32(PROG_INFO.xlated_prog_len),
    memory: fdNumber(readFdInfo(fd), "memlock"),
    verifiedInstructions: number(PROG_INFO.verified_insns),
    runCount: long(PROG_INFO.run_cnt),
    runTime: long(PROG_INFO.run_time_ns),
    recursionMisses: long(PROG_INFO.recursion_misses),
    target: targetOf(info),
    offloadedTo: interfaceOf(info),
  };
}

function countMaps(fd: number, what: string): number {
  using info = objectInfo(fd, PROG_INFO.sizeof, what);
  return info.u32(PROG_INFO.nr_map_ids);
}

function targetOf(info: ObjectInfo): ProgramInfo["target"] {
  const btfId = info.u32(PROG_INFO.attach_btf_obj_id);
  const typeId = info.u32(PROG_INFO.attach_btf_id);
  return typeId === 0 ? undefined : { btfId, typeId };
}

function interfaceOf(info: ObjectInfo): ProgramInfo["offloadedTo"] {
  const index = info.u32(PROG_INFO.ifindex);
  return index === 0 ? undefined : { index, netns: info.u64Number(PROG_INFO.netns_ino) };
}

/**
 * Lists all programs on the system in the order of their ids, which needs CAP_SYS_ADMIN.
 *
 * The list is lazy: each program's information is read when it is iterated. Programs that are loaded or unloaded meanwhile may
 * be missing or included.
 *
 * @throws {BpfError} `EPERM` without CAP_SYS_ADMIN.
 *
 * @example
 * ```ts
 * import { asm, listPrograms, Program } from "bun-bpf";
 * using program = new Program({
 *   section: "socket",
 *   name: "mine",
 *   license: "GPL",
 *   code: [asm.mov(asm.r0, 0), asm.exit()],
 * });
 * const { id } = program.info();
 * for (const { id, type, name, loadedAt } of listPrograms()) console.log(id, type, name, loadedAt);
 * console.log([...listPrograms()].find((info) => info.id === id)?.type); // socket_filter
 * ```
 *
 * Requires Linux 4.13.
 */
export function listPrograms(): Generator<ProgramInfo, undefined, undefined> {
  return describeAll("prog", readProgramInfo);
}

/**
 * Enables run statistics of all programs on the system: {@link ProgramInfo.runCount} and {@link ProgramInfo.runTime}. Needs
 * CAP_SYS_ADMIN.
 *
 * The statistics count until the returned object is disposed of or the process ends, and longer if others have enabled them, too.
 * Measuring costs each run about 50 ns.
 *
 * @throws {BpfError} `EPERM` without CAP_SYS_ADMIN, `EINVAL` before Linux 5.8.
 *
 * @example
 * ```ts
 * import { asm, enableStats, Program } from "bun-bpf";
 * using program = new Program({
 *   section: "socket",
 *   license: "GPL",
 *   code: [asm.mov(asm.r0, 0), asm.exit()],
 * });
 * {
 *   using _stats = enableStats();
 *   program.testRun({ data: new Uint8Array(14), repeat: 100 });
 * }
 * const { runCount = 0, runTime = 0 } = program.info();
 * console.log(`${runCount} runs in ${runTime} ns`);
 * ```
 *
 * Requires Linux 5.8.
 */
export function enableStats(): Disposable {
  return enableRunStatistics();
}
