/** @module Test runs of programs (BPF_PROG_TEST_RUN): options, results, and hints for errors. */

import * as asm from "../asm/asm.ts";
import { Btf } from "../btf/btf.ts";
import { checkBoolean, checkCount, checkOptions } from "../check/arguments.ts";
import { describe } from "../check/describe.ts";
import type { ProgramTypeName } from "../ffi/bpf_prog.ts";
import { type TestRunInput, testRunProgram } from "../ffi/bpf_test_run.ts";
import { Descriptor } from "../ffi/descriptor.ts";
import { BpfError } from "../ffi/error.ts";
import { isKernelSince, possibleCpus } from "../ffi/kernel.ts";
import { ETH_HLEN } from "../uapi/network.ts";
import { tryLoad } from "./load.ts";
import { type ProgramType, programTypes, type TestInput } from "./program_types.ts";

/** Options of {@link Program.testRun}: the program's input, the number of runs, and the way to run it. */
export interface TestRunOptions {
  /**
   * The packet, for programs that get one: at least 14 bytes, an Ethernet header. The maximum depends on the kernel's version and
   * page size: on Linux 6.18 for x86-64 it is 3,712 bytes, and 73,152 bytes for `xdp`. The error for a longer packet names the
   * maximum.
   */
  readonly data?: Uint8Array;
  /**
   * The context as the program sees it: for a raw tracepoint 8 bytes per argument; for programs that get packets a
   * `struct __sk_buff` or `struct xdp_md`, for `netfilter` a `struct nf_hook_state`; for `sk_lookup` a `struct bpf_sk_lookup`; for
   * `syscall` any bytes.
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
   * With `live` it is the number of packets. If a signal interrupts the call, more packets may be sent, unless `repeat` is at most
   * `batchSize`.
   *
   * @default 1
   */
  readonly repeat?: number;
  /**
   * The CPU to run on, for programs of raw tracepoints.
   *
   * @default the current CPU
   *
   * Requires Linux 5.10.
   */
  readonly cpu?: number;
  /**
   * Sends each packet where an XDP program directs it, as if it had arrived on the interface: to the network stack (`XDP_PASS`), to
   * the same interface (`XDP_TX`), or to the target of a redirection. The interface is that of the field `ingress_ifindex` of `ctx`,
   * by default the loopback interface of this network namespace. The result has neither packet nor context, and `returnValue` is 0.
   *
   * @default false
   *
   * Requires Linux 5.18.
   */
  readonly live?: boolean;
  /** The number of live packets that are processed together: at most 256. @default 64 */
  readonly batchSize?: number;
  /**
   * Gives the packet a complete checksum, as network hardware does, and checks after the run that the program has updated it with the
   * bytes that it has changed: for programs that get a `struct __sk_buff`.
   *
   * @default false
   *
   * Requires Linux 6.11.
   */
  readonly checksumComplete?: boolean;
}

/** Result of {@link Program.testRun}. */
export interface TestRunResult {
  /**
   * The return value (r0) of the last run. Before Linux 6.1, that of `flow_dissector` programs is 1 for `BPF_OK` and otherwise 0. For
   * `fmod_ret` programs it is the return value of the kernel's test function, and in the upper half the number of its side effects.
   */
  readonly returnValue: number;
  /**
   * Mean duration of one run in nanoseconds, without the runs of interrupted calls. 0 for raw tracepoints and `syscall`, whose
   * duration the kernel does not measure.
   */
  readonly duration: number;
  /**
   * The packet after the last run, whose length the program may have changed; empty without an input packet, and for `netfilter`. For
   * `flow_dissector` the flow keys (`struct bpf_flow_keys`).
   */
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
  checkOptions("testRun", options, optionNames);
  const { data, ctx, repeat = 1, cpu, live = false, batchSize, checksumComplete = false } = options;
  for (const [name, bytes] of Object.entries({ data, ctx })) {
    if (bytes !== undefined && !(bytes instanceof Uint8Array)) {
      throw new TypeError(`${name}: expected a Uint8Array, got ${describe(bytes)}`);
    }
  }
  checkCount("repeat", repeat, 1, 0xffffffff);
  if (cpu !== undefined) checkCount("cpu", cpu, 0);
  checkBoolean("live", live);
  if (batchSize !== undefined) checkCount("batchSize", batchSize, 1, 0xffffffff);
  checkBoolean("checksumComplete", checksumComplete);
  // A program opened by its id can be of a type that is newer than this library.
  const type = Object.hasOwn(programTypes, program.type) ? programTypes[program.type] : undefined;
  if (type?.testInput !== undefined) checkTaken(program.type, type.testInput, options);
  // The bytes are copied, because the length of a subclass of Uint8Array can change between calls: the kernel would write
  // beyond a buffer that has become shorter.
  const [dataIn, context] = [data, ctx].map((bytes) => bytes && new Uint8Array(bytes));
  const input: TestRunInput = {
    data: dataIn,
    context,
    contextReturn: type?.contextReturn,
    repeat,
    cpu,
    isLive: live,
    batchSize,
    isChecksumComplete: checksumComplete,
  };
  const explain = (code: string) => explainInput(program.type, type, options, code);
  const { context: contextOut, ...result } = testRunProgram(
    program.fd,
    input,
    `${program}`,
    explain,
  );
  return { ...result, ctx: contextOut };
}

const optionNames = [
  "data",
  "ctx",
  "repeat",
  "cpu",
  "live",
  "batchSize",
  "checksumComplete",
] as const satisfies readonly (keyof TestRunOptions)[];

/**
 * Checks that the options are among those of the program type. Before Linux 5.18 the kernel ignores some that it does not take.
 *
 * @throws {TypeError} if one is not.
 */
function checkTaken(name: ProgramTypeName, input: TestInput, options: TestRunOptions): void {
  for (const option of usedOptions(options)) {
    if (input.options?.includes(option) === true) continue;
    throw new TypeError(`${option}: programs of the type ${name} take no such option`);
  }
  if (options.batchSize !== undefined && options.live !== true) {
    throw new TypeError("batchSize: expected the option live with it");
  }
}

/** Returns the options that only some types take. */
function usedOptions(options: TestRunOptions): (keyof typeof optionVersions)[] {
  const names = Object.keys(optionVersions) as (keyof typeof optionVersions)[];
  return names.filter((name) => options[name] !== undefined && options[name] !== false);
}

/** The first kernel versions that have the options that only some types take. */
const optionVersions = {
  cpu: "5.10",
  live: "5.18",
  batchSize: "5.18",
  checksumComplete: "6.11",
} as const;

/** The largest batch of live packets: TEST_XDP_MAX_BATCH in net/bpf/test_run.c. */
const maxBatchSize = 256;

/**
 * Returns a hint for a refused input: the input that the program type takes, or the limit that the given one exceeds.
 *
 * @param code the name of the error
 */
function explainInput(
  name: ProgramTypeName,
  type: ProgramType | undefined,
  options: TestRunOptions,
  code: string,
): string | undefined {
  const input = type?.testInput;
  if (type === undefined || input === undefined) return undefined;
  const takes = `Programs of the type ${name} take`;
  for (const option of usedOptions(options)) {
    const since = optionVersions[option];
    if (!isKernelSince(since)) return `The option ${option} needs Linux ${since}`;
  }
  const { ctx, repeat = 1, cpu, batchSize = 1 } = options;
  if (batchSize > maxBatchSize) return `The option batchSize is at most ${maxBatchSize}`;
  if (cpu !== undefined && code === "ENXIO") return `CPU ${cpu} is not online`;
  if (code === "E2BIG") return explainLargeContext(input, ctx);
  switch (input.form) {
    case "arguments":
      return cpu !== undefined && !possibleCpus().includes(cpu)
        ? `This machine has no CPU ${cpu}`
        : `${takes} a context (ctx) of 8 bytes per argument, for all arguments that they read and at most 12, and neither data nor repeat`;
    case "context":
      if (code === "EAFNOSUPPORT") {
        return "The field family of the context (ctx) must be AF_INET or AF_INET6";
      }
      if (code === "ERANGE") return "A port in the context (ctx) is greater than 65535";
      if (name !== "syscall") {
        return `${takes} a context (ctx) with all bytes that they read, and no data`;
      }
      return repeat > 1
        ? `${takes} no repeat: call testRun() once per run`
        : `${takes} a context (ctx) with all bytes that they read, of at most 65535 bytes, and no data`;
    case "packet":
      return explainPacket(name, type, options, code);
    case "nothing":
      // bpf_prog_test_run_tracing() in net/bpf/test_run.c returns EFAULT for all other attach types.
      return code === "EFAULT"
        ? "Of the programs of the type tracing, the kernel can run only fentry, fexit, fmod_ret and fsession programs this way, not those of tp_btf, lsm and iter. Attach the program (an iterator runs when its output is read), or test a program of the section raw_tp, which takes the arguments of the tracepoint in ctx"
        : undefined;
  }
}

/** Returns a hint for a context with bytes that the kernel's struct does not have. */
function explainLargeContext(
  { context }: TestInput,
  ctx: Uint8Array | undefined,
): string | undefined {
  if (context === undefined || ctx === undefined) return undefined;
  const btf = Btf.kernel();
  const [id] = btf.findAll("struct", context);
  if (id === undefined) return undefined;
  return `The context (ctx) has ${ctx.byteLength} bytes, and struct ${context} of this kernel ${btf.sizeOf(id)}: all further bytes must be 0`;
}

/** Returns a hint for a refused packet, or its context. */
function explainPacket(
  name: ProgramTypeName,
  type: ProgramType,
  { data, ctx, live = false }: TestRunOptions,
  code: string,
): string | undefined {
  const takes = `Programs of the type ${name} take`;
  const size = data?.byteLength ?? 0;
  const least = name === "netfilter" ? IPV4_HEADER_SIZE : ETH_HLEN;
  if (size < least) return `${takes} a packet (data) of at least ${least} bytes, got ${size} bytes`;
  const largest = largestPacket(type, live);
  if (largest !== undefined && size > largest) {
    const kind = live ? "live packets" : "packets";
    return `${takes} ${kind} (data) of at most ${largest} bytes on this kernel, got ${size} bytes`;
  }
  if (name === "xdp" && largest !== undefined && ctx === undefined) {
    return "The kernel has no test runs for XDP programs that are bound to a network interface, or loaded for the entries of a map (xdp/devmap, xdp/cpumap)";
  }
  if (code === "ENODEV") {
    return "The interface in the context (ctx) does not exist in this network namespace, or is not up";
  }
  if (name === "netfilter") {
    return "Programs of the type netfilter take an Ethernet frame of the family pf of the context (ctx), for the hook local_out an IP packet. In struct nf_hook_state only hook, pf, in and out may be set, the latter two to indexes of interfaces";
  }
  if (ctx === undefined) return undefined;
  switch (type.testInput?.context) {
    case "__sk_buff":
      return "The kernel rejects a field of the context (ctx): in struct __sk_buff only mark, priority, ifindex, cb, tstamp and a few others may be set";
    case "xdp_md":
      return "The kernel rejects a field of the context (ctx): in struct xdp_md, which test runs accept since Linux 5.15, data_end must be the length of the packet";
    case "bpf_flow_keys":
      return "The kernel rejects a field of the context (ctx): in struct bpf_flow_keys only flags may be set";
    default:
      return undefined;
  }
}

/** The size of an IPv4 header without options, in bytes. */
const IPV4_HEADER_SIZE = 20;

/** Size in bytes of a packet that no kernel accepts. */
const rejectedSize = 2 * 2 ** 20;

/**
 * Finds the maximum packet size for a program type by a binary search with test runs, because the kernel does not report the
 * limit. Returns `undefined` if the kernel accepts no packet.
 */
function largestPacket({ section }: ProgramType, isLive: boolean): number | undefined {
  const code = [asm.mov(asm.r0, 0), asm.exit()];
  const loaded = tryLoad({ section, license: "GPL", code });
  if ("errno" in loaded) return undefined;
  using program = new Descriptor(loaded.fd, "program that does nothing");
  const bytes = new Uint8Array(rejectedSize);
  const accepts = (size: number) => {
    const data = bytes.subarray(0, size);
    const input = { data, context: undefined, contextReturn: undefined, repeat: 1, isLive };
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
