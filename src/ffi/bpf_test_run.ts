/** @module Runs programs without attaching them: BPF_PROG_TEST_RUN. */

import { BPF_PROG_TEST_RUN } from "../uapi/commands.ts";
import {
  BPF_F_TEST_RUN_ON_CPU,
  BPF_F_TEST_SKB_CHECKSUM_COMPLETE,
  BPF_F_TEST_XDP_LIVE_FRAMES,
} from "../uapi/bpf.ts";
import { PROG_TEST_RUN } from "../uapi/layout.ts";
import { BpfAttr, bpfError } from "./bpf.ts";
import { type BpfError, errnoName, lastErrno } from "./error.ts";
import { mayInterruptCalls } from "./io_uring.ts";
import { MappedMemory } from "./mapped_memory.ts";

/**
 * The place where BPF_PROG_TEST_RUN writes the modified context. `"copied"`: an output buffer, as for data. `"in place"`: the
 * input buffer; such program types reject an output buffer.
 */
export type ContextReturn = "copied" | "in place";

/** Input of {@link testRunProgram}. */
export interface TestRunInput {
  /** The packet, for program types that process one. */
  readonly data: Uint8Array | undefined;
  /** The context, for program types that accept one. */
  readonly context: Uint8Array | undefined;
  /** The place where the kernel writes the modified context, if anywhere. */
  readonly contextReturn: ContextReturn | undefined;
  /** Number of runs, at least 1. */
  readonly repeat: number;
  /** The CPU that runs the program; by default the current one (kernel 5.10). */
  readonly cpu?: number | undefined;
  /** Sends each packet where the program directs it (kernel 5.18). The kernel then returns neither packet nor context. */
  readonly isLive?: boolean;
  /** Number of live packets that are processed together; by default {@link defaultBatchSize}. */
  readonly batchSize?: number | undefined;
  /** Gives the packet a complete checksum, and checks it after the run (kernel 6.11). */
  readonly isChecksumComplete?: boolean;
}

/** Number of live packets that the kernel processes together by default: NAPI_POLL_WEIGHT. */
const defaultBatchSize = 64;

/** Output of {@link testRunProgram}: that of the last run, and the mean duration of all runs. */
export interface TestRunOutput {
  /** The program's return value, as an unsigned number of 32 bits. */
  readonly returnValue: number;
  /** Mean duration of a run, in nanoseconds. */
  readonly duration: number;
  /** The packet after the run; empty if the input has none. */
  readonly data: Uint8Array<ArrayBuffer>;
  /** The context after the run; empty if the input has none. */
  readonly context: Uint8Array<ArrayBuffer>;
}

/**
 * Runs a program `repeat` times without attaching it (kernel 4.12 for the first program types).
 *
 * If a call with several runs is interrupted, the kernel ends it early and does not report the number of runs that it made. If
 * io_uring can interrupt, as when a program writes to a ring buffer that is polled, each run is a separate call. After a signal,
 * the runs of the call are repeated in calls with fewer runs. Signals cannot be blocked meanwhile: the JavaScript engine sends
 * them to its threads, and waits for their effect while it holds locks.
 *
 * @param explain returns a hint for an input that the kernel rejects
 * @throws {BpfError} if the kernel rejects the call.
 */
export function testRunProgram(
  fd: number,
  input: TestRunInput,
  what: string,
  explain?: (code: string) => string | undefined,
): TestRunOutput {
  let left = input.repeat;
  // The kernel looks for signals after each run, and after each batch of live packets.
  const minRuns = input.isLive === true ? (input.batchSize ?? defaultBatchSize) : 1;
  let runsPerCall = mayInterruptCalls() ? minRuns : left;
  let measured = 0;
  let nanoseconds = 0;
  for (;;) {
    const runs = Math.min(runsPerCall, left);
    const result = runOnce(fd, input, runs);
    if ("errno" in result) {
      if (errnoName(result.errno) !== "EINTR") throw testRunError(result.errno, what, explain);
      // A call with a single run has completed this run: only kernels before 5.13 return EINTR for such a call. The last run
      // is repeated, because its result is needed.
      if (runs > minRuns) runsPerCall = Math.max(minRuns, Math.ceil(runs / 2));
      else if (left > 1) left--;
      continue;
    }
    left -= runs;
    measured += runs;
    nanoseconds += result.duration * runs;
    if (left === 0) return { ...result, duration: Math.round(nanoseconds / measured) };
  }
}

function testRunError(
  errno: number,
  what: string,
  explain: (code: string) => string | undefined = () => undefined,
): BpfError {
  const code = errnoName(errno);
  const cannotRun = "Programs of this type do not support test runs";
  return bpfError(BPF_PROG_TEST_RUN, errno, {
    doing: `run the ${what}`,
    hints: {
      // The kernel checks capabilities before the input.
      ...(code === "EPERM" ? {} : { [code]: () => explain(code) }),
      EBADMSG:
        "The checksum of the packet does not fit its bytes any more: the program has changed bytes without updating the checksum",
      ENOTSUPP: cannotRun,
      EOPNOTSUPP: cannotRun,
    },
  });
}

/**
 * Size of the output buffer for the packet, in bytes: the largest packet that the kernel allocates. A packet that does not
 * fit would be truncated, and the call would fail. Only the written pages take memory.
 */
const packetBufferSize = 4 * 2 ** 20;
let packetMemory: MappedMemory | undefined;

/**
 * Size of the output buffer for the context, in bytes. The kernel returns its whole struct, even for a shorter input. `struct
 * __sk_buff` has 192 bytes.
 */
const contextBufferSize = 512;

/** Runs a program by one call. */
function runOnce(
  fd: number,
  input: TestRunInput,
  repeat: number,
): TestRunOutput | { readonly errno: number } {
  const { data, context, cpu, isLive = false, isChecksumComplete = false } = input;
  // Kernels without live packets ignore the flag, but reject a call with a batch size.
  const batchSize = isLive ? (input.batchSize ?? defaultBatchSize) : undefined;
  const contextReturn = isLive ? undefined : input.contextReturn;
  const flags =
    (cpu === undefined ? 0 : BPF_F_TEST_RUN_ON_CPU) |
    (isLive ? BPF_F_TEST_XDP_LIVE_FRAMES : 0) |
    (isChecksumComplete ? BPF_F_TEST_SKB_CHECKSUM_COMPLETE : 0);
  using attr = new BpfAttr(
    batchSize !== undefined
      ? PROG_TEST_RUN.sizeof
      : flags !== 0
        ? PROG_TEST_RUN.batch_size
        : PROG_TEST_RUN.flags,
  );
  if (flags !== 0) attr.u32(PROG_TEST_RUN.flags, flags).u32(PROG_TEST_RUN.cpu, cpu ?? 0);
  if (batchSize !== undefined) attr.u32(PROG_TEST_RUN.batch_size, batchSize);
  // 0 means one run, and some program types accept no other number.
  attr.u32(PROG_TEST_RUN.prog_fd, fd).u32(PROG_TEST_RUN.repeat, repeat === 1 ? 0 : repeat);
  let packet = new Uint8Array(0);
  if (data !== undefined) {
    attr.memory(PROG_TEST_RUN.data_in, data);
    attr.u32(PROG_TEST_RUN.data_size_in, data.byteLength);
  }
  if (data !== undefined && !isLive) {
    packetMemory ??= MappedMemory.anonymous(packetBufferSize, "packet of a test run");
    attr
      .u64(PROG_TEST_RUN.data_out, packetMemory.address)
      .u32(PROG_TEST_RUN.data_size_out, packetBufferSize);
    packet = new Uint8Array(packetMemory.buffer);
  }
  let contextOut = new Uint8Array(0);
  if (context !== undefined) {
    const contextIn = attr.memory(PROG_TEST_RUN.ctx_in, context).bytes as Uint8Array<ArrayBuffer>;
    attr.u32(PROG_TEST_RUN.ctx_size_in, context.byteLength);
    if (contextReturn === "copied") {
      const room = Math.max(context.byteLength, contextBufferSize);
      contextOut = attr.memory(PROG_TEST_RUN.ctx_out, room).bytes as Uint8Array<ArrayBuffer>;
      attr.u32(PROG_TEST_RUN.ctx_size_out, room);
    } else if (!isLive) {
      contextOut = contextIn;
    }
  }
  if (attr.tryCall(BPF_PROG_TEST_RUN) < 0) return { errno: lastErrno() };
  const contextSize =
    contextReturn === "copied"
      ? attr.readU32(PROG_TEST_RUN.ctx_size_out)
      : (context?.byteLength ?? 0);
  return {
    returnValue: attr.readU32(PROG_TEST_RUN.retval),
    duration: attr.readU32(PROG_TEST_RUN.duration),
    data: packet.slice(0, attr.readU32(PROG_TEST_RUN.data_size_out)),
    context: contextOut.slice(0, contextSize),
  };
}
