/** @module Test runs of programs: their options, their result, and what is wrong where the kernel refuses one. */

import * as asm from "../asm/asm.ts";
import { assemble } from "../asm/assembler.ts";
import { checkCount, checkOptions } from "../check/arguments.ts";
import { describe } from "../check/describe.ts";
import {
  attachTypeNumbers,
  type ProgramTypeName,
  programTypeNumbers,
  tryLoadProgram,
} from "../ffi/bpf_prog.ts";
import { type TestRunInput, testRunProgram } from "../ffi/bpf_test_run.ts";
import { Descriptor } from "../ffi/descriptor.ts";
import { BpfError } from "../ffi/error.ts";
import { ETH_HLEN } from "../uapi/network.ts";
import { type ProgramType, programTypes } from "./program_types.ts";

/** Input of {@link Program.testRun}. */
export interface TestRunOptions {
  /**
   * The packet, for programs that get one: of 14 bytes at least. The most that the kernel takes depends on its version and
   * page size: on Linux 6.18 for x86-64 3,712 bytes, and 73,152 for `xdp`. The error for a longer one says how much it is.
   */
  readonly data?: Uint8Array;
  /** The context as the program sees it: for a raw tracepoint, 8 bytes an argument. */
  readonly ctx?: Uint8Array;
  /**
   * Number of runs, for programs that get packets. Each run has the packet and the context as the run before left them.
   *
   * While this thread waits for the events of a ring buffer, each run is a call of its own: it begins with the input, and
   * takes some microseconds. Otherwise a signal that arrives in between makes runs be made again from the input on, as the
   * kernel does not tell how many there were: the program then runs more often than `repeat`. To count exactly, call
   * `testRun()` once for each run.
   *
   * @default 1
   */
  readonly repeat?: number;
}

/** Result of {@link Program.testRun}. */
export interface TestRunResult {
  /** The value that the program returned, in r0; of the last run. */
  readonly returnValue: number;
  /**
   * Nanoseconds of one run: the mean of all, weighted by their number where they took several calls, and without those of
   * interrupted calls. 0 for types whose runs the kernel does not measure: raw tracepoints and `syscall`.
   */
  readonly duration: number;
  /** The packet as the program left it, however long; empty where none went in. */
  readonly data: Uint8Array<ArrayBuffer>;
  /**
   * The context as the program left it, for `syscall` programs and those that get packets (kernel 5.2; `xdp` 5.15); empty
   * where none went in.
   */
  readonly ctx: Uint8Array<ArrayBuffer>;
}

/** The program of a test run. */
interface Runnable {
  readonly fd: number;
  readonly type: ProgramTypeName;
}

/** Runs a program without attaching it. @throws as {@link Program.testRun} */
export function runProgram(program: Runnable, options: TestRunOptions): TestRunResult {
  checkOptions("testRun", options, ["data", "ctx", "repeat"]);
  const { data, ctx, repeat = 1 } = options;
  for (const [name, bytes] of Object.entries({ data, ctx })) {
    if (bytes !== undefined && !(bytes instanceof Uint8Array)) {
      throw new TypeError(`${name}: expected a Uint8Array, got ${describe(bytes)}`);
    }
  }
  checkCount("repeat", repeat, 1, 0xffffffff);
  // The type may be newer than this library.
  const type = Object.hasOwn(programTypes, program.type) ? programTypes[program.type] : undefined;
  // Copies, because a class of the user's may give another length at each question: the kernel writes by it.
  const [dataIn, context] = [data, ctx].map((bytes) => bytes && new Uint8Array(bytes));
  const input = { data: dataIn, context, contextComesBack: type?.contextComesBack, repeat };
  const explain = () => explainInput(program.type, type, input);
  const { context: contextOut, ...result } = testRunProgram(
    program.fd,
    input,
    `${program}`,
    explain,
  );
  return { ...result, ctx: contextOut };
}

/** Says which input a type of programs takes, and which limit was exceeded. */
function explainInput(
  name: ProgramTypeName,
  type: ProgramType | undefined,
  { data, context, repeat }: TestRunInput,
): string | undefined {
  const takes = `Programs of the type ${name} take`;
  switch (type?.testInput) {
    case "arguments":
      return `${takes} a context (ctx) of 8 bytes an argument, as many as they read and 12 at most, and neither data nor repeat`;
    case "context":
      return repeat > 1 && type.contextComesBack === "in place"
        ? `${takes} no repeat: run them once for each time`
        : `${takes} a context (ctx) of the size that they read, and no data`;
    case "packet": {
      const size = data?.byteLength ?? 0;
      if (size < ETH_HLEN) {
        return `${takes} a packet (data) of ${ETH_HLEN} bytes at least, got ${size} bytes`;
      }
      const largest = largestPacket(name, type);
      if (largest !== undefined && size > largest) {
        return `${takes} packets (data) of ${largest} bytes at most on this kernel, got ${size} bytes`;
      }
      return context === undefined
        ? undefined
        : `The kernel refuses a field of the context (ctx): in a struct __sk_buff mark, priority, ifindex, cb, tstamp and a few others may be set, in a struct xdp_md, which Linux takes from 5.15 on, data_end is the length of the packet`;
    }
    default:
      return undefined;
  }
}

/** More bytes than any kernel takes for a packet. */
const tooLarge = 2 * 2 ** 20;

/**
 * Finds the most bytes of a packet that this kernel takes for a type of programs, by running one that does nothing: the limit
 * follows from sizes that the kernel does not tell. Returns `undefined` where it takes none.
 */
function largestPacket(name: ProgramTypeName, { attachType }: ProgramType): number | undefined {
  const loaded = tryLoadProgram(
    {
      type: programTypeNumbers[name],
      expectedAttachType: attachType === undefined ? 0 : attachTypeNumbers[attachType],
      instructions: assemble([asm.mov(asm.r0, 0), asm.exit()]).bytes,
      license: "GPL",
      name: "",
    },
    0,
  );
  if ("errno" in loaded) return undefined;
  using program = new Descriptor(loaded.fd, "program that does nothing");
  const bytes = new Uint8Array(tooLarge);
  const takes = (size: number) => {
    const data = bytes.subarray(0, size);
    const input = { data, context: undefined, contextComesBack: undefined, repeat: 1 };
    try {
      testRunProgram(program.fd, input, program.what);
      return true;
    } catch (error) {
      if (error instanceof BpfError) return false;
      throw error;
    }
  };
  if (!takes(ETH_HLEN)) return undefined;
  let taken = ETH_HLEN;
  let refused = tooLarge;
  while (refused - taken > 1) {
    const middle = Math.floor((taken + refused) / 2);
    if (takes(middle)) taken = middle;
    else refused = middle;
  }
  return taken;
}
