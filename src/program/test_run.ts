/** @module Test runs of programs (BPF_PROG_TEST_RUN): options, results, and hints for errors. */

import * as asm from "../asm/asm.ts";
import { checkCount, checkOptions } from "../check/arguments.ts";
import { describe } from "../check/describe.ts";
import type { ProgramTypeName } from "../ffi/bpf_prog.ts";
import { type TestRunInput, testRunProgram } from "../ffi/bpf_test_run.ts";
import { Descriptor } from "../ffi/descriptor.ts";
import { BpfError } from "../ffi/error.ts";
import { ETH_HLEN } from "../uapi/network.ts";
import { tryLoad } from "./load.ts";
import { type ProgramType, programTypes } from "./program_types.ts";

/** Options of {@link Program.testRun}: the program's input, and the number of runs. */
export interface TestRunOptions {
  /**
   * The packet, for programs that get one: at least 14 bytes, an Ethernet header. The maximum depends on the kernel's version and
   * page size: on Linux 6.18 for x86-64 it is 3,712 bytes, and 73,152 bytes for `xdp`. The error for a longer packet names the
   * maximum.
   */
  readonly data?: Uint8Array;
  /**
   * The context as the program sees it: for a raw tracepoint 8 bytes per argument; for programs that get packets a
   * `struct __sk_buff` or `struct xdp_md`; for `syscall` any bytes.
   */
  readonly ctx?: Uint8Array;
  /**
   * Number of runs, for programs that get packets. Each run gets the packet and context as the previous run left them.
   *
   * If a signal interrupts the call, all runs start again from the input, because the kernel does not report the number of
   * completed runs. The program may then run more often than `repeat`. For an exact count call `testRun()` once per run. While
   * this thread waits for events of a ring buffer, signals are frequent: each run is then a separate system call that starts
   * from the input.
   *
   * @default 1
   */
  readonly repeat?: number;
}

/** Result of {@link Program.testRun}. */
export interface TestRunResult {
  /** The return value (r0) of the last run. */
  readonly returnValue: number;
  /**
   * Mean duration of one run in nanoseconds, without the runs of interrupted calls. 0 for raw tracepoints and `syscall`, whose
   * duration the kernel does not measure.
   */
  readonly duration: number;
  /** The packet after the last run, whose length the program may have changed; empty without an input packet. */
  readonly data: Uint8Array<ArrayBuffer>;
  /**
   * The context after the last run, for programs of the types `syscall` and `sk_lookup` and those that get packets (kernel
   * 5.2, for `xdp` 5.15); empty without an input context.
   */
  readonly ctx: Uint8Array<ArrayBuffer>;
}

/** The program of a test run. */
interface TestedProgram {
  readonly fd: number;
  readonly type: ProgramTypeName;
}

/**
 * Runs a program without attaching it, as {@link Program.testRun} does.
 *
 * @throws {BpfError} if the kernel refuses.
 * @throws {TypeError | RangeError} if an option is wrong.
 */
export function runProgram(program: TestedProgram, options: TestRunOptions): TestRunResult {
  checkOptions("testRun", options, ["data", "ctx", "repeat"]);
  const { data, ctx, repeat = 1 } = options;
  for (const [name, bytes] of Object.entries({ data, ctx })) {
    if (bytes !== undefined && !(bytes instanceof Uint8Array)) {
      throw new TypeError(`${name}: expected a Uint8Array, got ${describe(bytes)}`);
    }
  }
  checkCount("repeat", repeat, 1, 0xffffffff);
  // A program opened by its id can be of a type that is newer than this library.
  const type = Object.hasOwn(programTypes, program.type) ? programTypes[program.type] : undefined;
  // The bytes are copied, because the length of a subclass of Uint8Array can change between calls: the kernel would write
  // beyond a buffer that has become shorter.
  const [dataIn, context] = [data, ctx].map((bytes) => bytes && new Uint8Array(bytes));
  const input = { data: dataIn, context, contextReturn: type?.contextReturn, repeat };
  const explain = () => explainInput(program.type, type, input);
  const { context: contextOut, ...result } = testRunProgram(
    program.fd,
    input,
    `${program}`,
    explain,
  );
  return { ...result, ctx: contextOut };
}

/** Returns a hint for a refused input: the input that the program type takes, or the limit that the given one exceeds. */
function explainInput(
  name: ProgramTypeName,
  type: ProgramType | undefined,
  { data, context, repeat }: TestRunInput,
): string | undefined {
  const takes = `Programs of the type ${name} take`;
  switch (type?.testInput) {
    case "arguments":
      return `${takes} a context (ctx) of 8 bytes per argument, for all arguments that they read and at most 12, and neither data nor repeat`;
    case "context":
      return repeat > 1 && type.contextReturn === "in place"
        ? `${takes} no repeat: call testRun() once per run`
        : `${takes} a context (ctx) with all bytes that they read, and no data`;
    case "packet": {
      const size = data?.byteLength ?? 0;
      if (size < ETH_HLEN) {
        return `${takes} a packet (data) of at least ${ETH_HLEN} bytes, got ${size} bytes`;
      }
      const largest = largestPacket(type);
      if (largest !== undefined && size > largest) {
        return `${takes} packets (data) of at most ${largest} bytes on this kernel, got ${size} bytes`;
      }
      return context === undefined
        ? undefined
        : `The kernel rejects a field of the context (ctx): in struct __sk_buff only mark, priority, ifindex, cb, tstamp and a few others may be set; in struct xdp_md, which test runs accept since Linux 5.15, data_end must be the length of the packet`;
    }
    default:
      // bpf_prog_test_run_tracing() in net/bpf/test_run.c returns EFAULT for all other attach types.
      return name === "tracing"
        ? "Of the programs of the type tracing, the kernel can run only fentry, fexit, fmod_ret and fsession programs this way, not those of tp_btf. Attach the program, or test a program of the section raw_tp, which takes the arguments of the tracepoint in ctx"
        : undefined;
  }
}

/** Size in bytes of a packet that no kernel accepts. */
const rejectedSize = 2 * 2 ** 20;

/**
 * Finds the maximum packet size for a program type by a binary search with test runs, because the kernel does not report the
 * limit. Returns `undefined` if the kernel accepts no packet.
 */
function largestPacket({ section }: ProgramType): number | undefined {
  const code = [asm.mov(asm.r0, 0), asm.exit()];
  const loaded = tryLoad({ section, license: "GPL", code });
  if ("errno" in loaded) return undefined;
  using program = new Descriptor(loaded.fd, "program that does nothing");
  const bytes = new Uint8Array(rejectedSize);
  const accepts = (size: number) => {
    const data = bytes.subarray(0, size);
    const input = { data, context: undefined, contextReturn: undefined, repeat: 1 };
    try {
      testRunProgram(program.fd, input, program.what);
      return true;
    } catch (error) {
      if (error instanceof BpfError) return false;
      throw error;
    }
  };
  if (!accepts(ETH_HLEN)) return undefined;
  let accepted = ETH_HLEN;
  let rejected = rejectedSize;
  while (rejected - accepted > 1) {
    const middle = Math.floor((accepted + rejected) / 2);
    if (accepts(middle)) accepted = middle;
    else rejected = middle;
  }
  return accepted;
}
