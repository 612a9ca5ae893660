import { type Keyword, keywordOf, keywordsByNumber, numbersByKeyword } from "../check/names.ts";
import { BPF_ENABLE_STATS, BPF_PROG_BIND_MAP, BPF_PROG_LOAD } from "../uapi/commands.ts";
import {
  BPF_F_ANY_ALIGNMENT,
  BPF_F_SLEEPABLE,
  BPF_F_STRICT_ALIGNMENT,
  BPF_F_TEST_REG_INVARIANTS,
  BPF_F_TEST_RND_HI32,
  BPF_F_TEST_STATE_FREQ,
  BPF_F_TOKEN_FD,
  BPF_F_XDP_DEV_BOUND_ONLY,
  BPF_F_XDP_HAS_FRAGS,
  BPF_OBJ_NAME_LEN,
  BPF_STATS_RUN_TIME,
} from "../uapi/bpf.ts";
import { bpfAttachTypes, bpfProgTypes } from "../uapi/enumerations.ts";
import { ENABLE_STATS, PROG_BIND_MAP, PROG_LOAD } from "../uapi/layout.ts";
import { BpfAttr, bpfError } from "./bpf.ts";
import type { Capability } from "./capabilities.ts";
import { Descriptor } from "./descriptor.ts";
import { type BpfError, errnoName, lastErrno } from "./error.ts";
import { isKernelSince } from "./kernel.ts";
import { allocateScratch, pageSize, type Scratch } from "./mapped_memory.ts";

/** A program type: the kernel's `BPF_PROG_TYPE_SCHED_CLS` is `"sched_cls"`. */
export type ProgramTypeName = Keyword<Exclude<keyof typeof bpfProgTypes, "UNSPEC">>;

/** The kernel's numbers of program types. */
export const programTypeNumbers: Readonly<Record<ProgramTypeName, number>> =
  /*@__PURE__*/ numbersByKeyword(bpfProgTypes);

const programTypeNames = /*@__PURE__*/ keywordsByNumber(bpfProgTypes) as ReadonlyMap<
  number,
  ProgramTypeName
>;

/** Returns the name of a program type, also of one that is newer than this library. */
export function programTypeName(number: number): ProgramTypeName {
  return keywordOf(programTypeNames, number);
}

/** An attach type: the kernel's `BPF_CGROUP_INET_INGRESS` is `"cgroup_inet_ingress"`. */
export type AttachTypeName = Keyword<keyof typeof bpfAttachTypes>;

/** The kernel's numbers of attach types. */
export const attachTypeNumbers: Readonly<Record<AttachTypeName, number>> =
  /*@__PURE__*/ numbersByKeyword(bpfAttachTypes);

const attachTypeNames = /*@__PURE__*/ keywordsByNumber(bpfAttachTypes);

/** Returns the name of an attach type, also of one that is newer than this library. */
export function attachTypeName(number: number): AttachTypeName {
  return keywordOf(attachTypeNames, number);
}

/** A flag of loading a program: the kernel's `BPF_F_STRICT_ALIGNMENT` is `"strict_alignment"`. */
export type ProgramFlag = keyof typeof programFlags;

/** The bits of the flags of loading a program. */
export const programFlags = {
  /** The verifier checks alignment as for machines that need aligned access. */
  strict_alignment: BPF_F_STRICT_ALIGNMENT,
  /** The verifier accepts any alignment. The flag is for tests of the verifier. */
  any_alignment: BPF_F_ANY_ALIGNMENT,
  /** The unused upper halves of registers get random bits. The flag is for tests of the verifier. */
  test_rnd_hi32: BPF_F_TEST_RND_HI32,
  /** The verifier saves its state more often. The flag is for tests of the verifier. */
  test_state_freq: BPF_F_TEST_STATE_FREQ,
  /** The program may sleep. Sections such as `"lsm.s"` have the flag. */
  sleepable: BPF_F_SLEEPABLE,
  /** The XDP program supports packets in several buffers. Sections such as `"xdp.frags"` have the flag. */
  xdp_has_frags: BPF_F_XDP_HAS_FRAGS,
  /** The XDP program is bound to a network interface, and the kernel runs it. */
  xdp_dev_bound_only: BPF_F_XDP_DEV_BOUND_ONLY,
  /** The verifier fails for inconsistent register bounds. The flag is for tests of the verifier. */
  test_reg_invariants: BPF_F_TEST_REG_INVARIANTS,
} as const;

/** The fields of BPF_PROG_LOAD that this library sets. */
export interface ProgramLoad {
  readonly type: number;
  readonly expectedAttachType?: number;
  /** The BTF id of the function, tracepoint or struct that the program is for, or 0. */
  readonly attachBtfId?: number;
  /** Bits `BPF_F_*`. */
  readonly flags?: number;
  /** The index of the network interface that the program is bound to (kernel 4.16). */
  readonly interfaceIndex?: number;
  /** The descriptors that instructions refer to by their index (kernel 5.14). */
  readonly fdArray?: Int32Array;
  /** The descriptor of the BPF token whose privileges the load uses (kernel 6.9). */
  readonly tokenFd?: number;
  /** The signature of the instructions, and the keyring with the key that verifies it (kernel 6.18). */
  readonly signature?: ProgramSignature;
  /** The encoded instructions, 8 bytes for each slot. */
  readonly instructions: Uint8Array;
  readonly license: string;
  readonly name: string;
  /**
   * The descriptor of the program whose BTF has the type `attachBtfId` (kernel 5.5), or of the BTF of a module (kernel 5.11);
   * absent if the type is in the kernel's BTF.
   */
  readonly attachFd?: number | undefined;
  /** The program's BTF. */
  readonly btf?: ProgramBtf | undefined;
}

/** A signature of a program's instructions. */
interface ProgramSignature {
  /** PKCS #7 in DER. */
  readonly bytes: Uint8Array;
  readonly keyringId: number;
}

/** The BTF of a program, and the tables that refer to it. Empty tables are left out. */
export interface ProgramBtf {
  /** The descriptor of the BTF. */
  readonly fd: number;
  /** An array of `struct bpf_func_info`: the first slot and the type of each function (kernel 5.0). */
  readonly functions?: Uint8Array | undefined;
  /** An array of `struct bpf_line_info`: the first slot, file, text, line and column of each source line (kernel 5.0). */
  readonly lines?: Uint8Array | undefined;
  /** An array of `struct bpf_core_relo`: the relocations that the kernel applies (kernel 5.17). */
  readonly relocations?: Uint8Array | undefined;
}

/** Sizes of the elements of these arrays, in bytes. */
const recordSizes = { functions: 8, lines: 16, relocations: 16 } as const;

/** Number of attempts for an interrupted load, the same as in libbpf. */
const loadAttempts = 5;

/**
 * The result of {@link tryLoadProgram}. With a log, `ENOSPC` means that the log did not fit, and that it is not known whether
 * the verifier accepts the program. `log` is then the end of the log (before kernel 6.4 its beginning).
 */
export type LoadResult =
  { readonly fd: number; readonly log: string } | { readonly errno: number; readonly log: string };

/**
 * The level of the verifier's log; 0 for none. The level consists of bits: 1 logs the verification, 2 every state, 4
 * statistics.
 */
export type LogLevel = number;

/**
 * Greatest number of bytes of a log that are returned. Of a longer log, only the end is returned. A log of a million
 * instructions, the verifier's limit, takes 20 to 60 MiB.
 */
const returnedLogSize = 64 * 2 ** 20;

/**
 * The largest log buffer that kernels accept, in bytes. If a log does not fit, the buffer has its end since kernel 6.4. On
 * older kernels it has the beginning, so the whole log must fit.
 */
const maxLogSize = 2 ** 30 - 1;

/**
 * Loads a program, with a log if one is requested. Repeats the call if a signal has interrupted the verifier.
 *
 * @param logSize size of the log buffer, in bytes; by default enough for every log, or for its end. Only the written pages take
 *   memory, but the JavaScript engine counts the whole buffer as used
 */
export function tryLoadProgram(
  program: ProgramLoad,
  logLevel: LogLevel,
  logSize: number = isKernelSince("6.4") ? returnedLogSize : maxLogSize,
): LoadResult {
  const { attachFd, btf, interfaceIndex, fdArray, tokenFd, signature } = program;
  // Since Linux 6.14 the kernel checks all descriptors of the array, and keeps their objects.
  const hasFdCount = fdArray !== undefined && isKernelSince("6.14");
  using attr = new BpfAttr(
    signature !== undefined
      ? PROG_LOAD.sizeof
      : hasFdCount
        ? PROG_LOAD.signature
        : tokenFd !== undefined
          ? PROG_LOAD.fd_array_cnt
          : btf?.relocations !== undefined
            ? PROG_LOAD.log_true_size
            : fdArray !== undefined
              ? PROG_LOAD.core_relos
              : attachFd !== undefined
                ? PROG_LOAD.core_relo_cnt
                : PROG_LOAD.attach_prog_fd,
  );
  if (attachFd !== undefined) attr.u32(PROG_LOAD.attach_prog_fd, attachFd);
  attr
    .u32(PROG_LOAD.prog_type, program.type)
    .u32(PROG_LOAD.insn_cnt, program.instructions.byteLength / 8)
    .string(PROG_LOAD.license, program.license)
    .u32(PROG_LOAD.prog_flags, (program.flags ?? 0) | (tokenFd === undefined ? 0 : BPF_F_TOKEN_FD))
    .text(PROG_LOAD.prog_name, program.name, BPF_OBJ_NAME_LEN)
    .u32(PROG_LOAD.expected_attach_type, program.expectedAttachType ?? 0)
    .u32(PROG_LOAD.attach_btf_id, program.attachBtfId ?? 0);
  attr.memory(PROG_LOAD.insns, program.instructions);
  if (interfaceIndex !== undefined) attr.u32(PROG_LOAD.prog_ifindex, interfaceIndex);
  if (fdArray !== undefined && fdArray.length > 0) {
    attr.memory(PROG_LOAD.fd_array, new Uint8Array(fdArray.buffer));
    if (hasFdCount) attr.u32(PROG_LOAD.fd_array_cnt, fdArray.length);
  }
  if (tokenFd !== undefined) attr.u32(PROG_LOAD.prog_token_fd, tokenFd);
  if (signature !== undefined) {
    attr.memory(PROG_LOAD.signature, signature.bytes);
    attr
      .u32(PROG_LOAD.signature_size, signature.bytes.length)
      .u32(PROG_LOAD.keyring_id, signature.keyringId);
  }
  if (btf !== undefined) fillBtf(attr, btf);
  using log = logLevel === 0 ? undefined : allocateLog(logSize);
  if (log !== undefined) {
    attr
      .u32(PROG_LOAD.log_level, logLevel)
      .u64(PROG_LOAD.log_buf, log.address)
      .u32(PROG_LOAD.log_size, Math.min(log.length, maxLogSize));
  }
  let fd = attr.tryCall(BPF_PROG_LOAD);
  let errno = fd < 0 ? lastErrno() : 0;
  // The verifier returns EAGAIN when a signal is pending, and the wake-up of a consumer through io_uring counts as one.
  for (let attempt = 1; attempt < loadAttempts && errnoName(errno) === "EAGAIN"; attempt++) {
    fd = attr.tryCall(BPF_PROG_LOAD);
    errno = fd < 0 ? lastErrno() : 0;
  }
  const text = log === undefined ? "" : readLog(log, errnoName(errno) === "ENOSPC");
  return fd < 0 ? { errno, log: text } : { fd, log: text };
}

/** Allocates memory for a log, or less if the full size is not available. */
function allocateLog(maxSize: number): Scratch {
  for (let size = maxSize; ; size = Math.floor(size / 2)) {
    try {
      return allocateScratch(size);
    } catch (error) {
      // The allocation fails if the address space is limited, or the kernel does not overcommit memory.
      if (size <= pageSize()) throw error;
    }
  }
}

/** Returns a log, or its last {@link returnedLogSize} bytes. @param isCut true if the log may begin within a line */
function readLog({ bytes }: Scratch, isCut: boolean): string {
  const end = bytes.indexOf(0);
  const start = Math.max(0, end - returnedLogSize);
  const text = new TextDecoder().decode(bytes.subarray(start, end));
  return isCut || start > 0 ? text.slice(text.indexOf("\n") + 1) : text;
}

function fillBtf(attr: BpfAttr, { fd, functions, lines, relocations }: ProgramBtf): void {
  attr.u32(PROG_LOAD.prog_btf_fd, fd);
  if (functions !== undefined) {
    attr.memory(PROG_LOAD.func_info, functions);
    attr
      .u32(PROG_LOAD.func_info_rec_size, recordSizes.functions)
      .u32(PROG_LOAD.func_info_cnt, functions.byteLength / recordSizes.functions);
  }
  if (lines !== undefined) {
    attr.memory(PROG_LOAD.line_info, lines);
    attr
      .u32(PROG_LOAD.line_info_rec_size, recordSizes.lines)
      .u32(PROG_LOAD.line_info_cnt, lines.byteLength / recordSizes.lines);
  }
  if (relocations !== undefined) {
    attr.memory(PROG_LOAD.core_relos, relocations);
    attr
      .u32(PROG_LOAD.core_relo_rec_size, recordSizes.relocations)
      .u32(PROG_LOAD.core_relo_cnt, relocations.byteLength / recordSizes.relocations);
  }
}

/** Returns the error for a failed load, unless the verifier rejected the program. @param hints by errno name */
export function loadError(
  errno: number,
  what: string,
  needs: readonly Capability[],
  hints: Readonly<Record<string, string>>,
): BpfError {
  return bpfError(BPF_PROG_LOAD, errno, {
    doing: `load the ${what}`,
    needs,
    hints: {
      E2BIG: "The program has more instructions than the kernel allows",
      ENOMEM: "The kernel has no memory for the program",
      ...hints,
    },
  });
}

/** Enables the kernel's run statistics of programs until the result is disposed of (kernel 5.8). */
export function enableRunStatistics(): Descriptor {
  using attr = new BpfAttr(ENABLE_STATS.sizeof);
  attr.u32(ENABLE_STATS.type, BPF_STATS_RUN_TIME);
  const fd = attr.call(BPF_ENABLE_STATS, {
    doing: "enable the run statistics of programs",
    needs: ["CAP_SYS_ADMIN"],
    hints: {
      EINVAL: () =>
        isKernelSince("5.8")
          ? undefined
          : "It needs Linux 5.8. Before that, the sysctl kernel.bpf_stats_enabled enables the statistics",
    },
  });
  return new Descriptor(fd, "run statistics");
}

/** Binds a map to a program, which then keeps the map in the kernel (kernel 5.10). */
export function bindMap(programFd: number, mapFd: number, what: string): void {
  using attr = new BpfAttr(PROG_BIND_MAP.sizeof);
  attr.u32(PROG_BIND_MAP.prog_fd, programFd).u32(PROG_BIND_MAP.map_fd, mapFd);
  attr.call(BPF_PROG_BIND_MAP, {
    doing: `bind a map to the ${what}`,
    hints: {
      EBADF: "The descriptor is not open",
      EINVAL: () =>
        isKernelSince("5.10") ? "The descriptor is not that of a map" : "Binding needs Linux 5.10",
    },
  });
}
