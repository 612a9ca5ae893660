import { testRunProgram } from "../ffi/bpf_prog.ts";
import { Descriptor } from "../ffi/descriptor.ts";
import type { Link } from "../link/link.ts";
import { checkName, KernelObject } from "../handle/kernel_object.ts";
import { checkCount, checkOptions } from "../check/arguments.ts";
import { describe } from "../check/describe.ts";
import { suggest } from "../check/names.ts";
import { assemble } from "../asm/assembler.ts";
import { type ProgramInfo, readProgramInfo } from "./program_info.ts";
import type { Code, LiveMap } from "../asm/instruction.ts";
import { kernelResolver } from "./kernel_resolver.ts";
import { loadProgram, logLevels } from "./load.ts";
import { checkTarget, parseSection, type Section } from "./section.ts";

/** What a program is: plain data, the same on every machine. */
export interface ProgramSpec {
  /** Which kind of program this is, and of what: `"tp_btf/sched_process_exec"`, `"socket"`; libbpf's names. */
  readonly section: string;
  /** The instructions, from `asm` or elsewhere; arrays in it are flattened. */
  readonly code: Code;
  /** The program's license: many helpers are for `"GPL"` and compatible ones only. */
  readonly license: string;
  /** Shown by `bpftool prog`: at most 15 characters of `A-Z a-z 0-9 _ .`. @default "" */
  readonly name?: string;
}

/** How much the verifier writes into {@link Program.log}, whether it accepts the program or not. */
export type VerifierLog = keyof typeof logLevels;

/** Options of {@link Program}. */
export interface ProgramOptions extends ProgramSpec {
  /** The maps that the code refers to by name. */
  readonly maps?: Readonly<Record<string, LiveMap>>;
  /** What the verifier writes on success. @default "none" */
  readonly log?: VerifierLog;
}

/** Input of {@link Program.testRun}. */
export interface TestRunOptions {
  /** The packet, for programs that get one: 14 bytes at least. */
  readonly data?: Uint8Array;
  /** The context as the program sees it: for a raw tracepoint, 8 bytes an argument. */
  readonly ctx?: Uint8Array;
  /** How often it runs. @default 1 */
  readonly repeat?: number;
}

/** Result of {@link Program.testRun}. */
export interface TestRunResult {
  /** What the program returned, in r0. */
  readonly returnValue: number;
  /** Nanoseconds of one run, averaged over `repeat`. */
  readonly duration: number;
  /** The packet as the program left it; empty where none went in. */
  readonly data: Uint8Array<ArrayBuffer>;
  /**
   * The context as the program left it, for `syscall` programs and those that get packets (kernel 5.2; `xdp` 5.15); empty
   * where none went in.
   */
  readonly ctx: Uint8Array<ArrayBuffer>;
}

/**
 * A program in the kernel: checked by the verifier, ready to be attached or run.
 *
 * Kernel 3.18 for programs at all; each section says more. It lives until it is disposed of (`using`, or
 * `program[Symbol.dispose]()`) or the process ends; links keep the kernel's program alive by themselves.
 *
 * @throws {VerifierError} when the verifier rejects the program, with its reason
 * @throws {BpfError} `EPERM` without the capabilities that the kind of program needs
 * @throws {AssemblerError} when labels or references of the code do not resolve
 * @throws {TypeError | RangeError} for options that are misspelt, of the wrong type or out of range
 *
 * @example
 * ```ts
 * import { asm, Program } from "bun-bpf";
 * using program = new Program({
 *   section: "socket",
 *   license: "GPL",
 *   code: [asm.mov(asm.r0, 7), asm.exit()],
 * });
 * console.log(program.testRun({ data: new Uint8Array(14) }).returnValue); // 7
 * ```
 */
export class Program extends KernelObject {
  readonly #section: Section;
  /** What the verifier wrote, if the option `log` asked for it. */
  readonly log: string;

  constructor(options: ProgramOptions) {
    checkOptions("Program", options, ["section", "code", "license", "name", "maps", "log"]);
    const { code, license, name = "", maps = {}, log = "none" } = options;
    if (typeof license !== "string" || license.includes("\0")) {
      throw new TypeError(`license: expected a string such as "GPL", got ${describe(license)}`);
    }
    if (!Object.hasOwn(logLevels, log)) {
      throw new TypeError(
        `log: unknown ${describe(log)}: ${suggest(String(log), Object.keys(logLevels))}`,
      );
    }
    checkName(name);
    const section = parseSection(options.section);
    const assembled = assemble(code, kernelResolver(maps));
    const what =
      name === "" ? `${options.section} program` : `${options.section} program "${name}"`;
    const request = { license, name, what, assembled, logLevel: logLevels[log] };
    const loaded = loadProgram(section, request);
    super("prog", new Descriptor(loaded.fd, what));
    this.#section = section;
    this.log = loaded.log;
  }

  /** The section's name that the program was loaded by. */
  get section(): string {
    return this.#section.name;
  }

  /** What the kernel says of the program now (kernel 4.13). */
  info(): ProgramInfo {
    return readProgramInfo(this.fd, `${this}`);
  }

  /**
   * Attaches the program: from now on it runs, until the link is disposed of.
   *
   * @param target what to attach to, where the section's name does not say: `"syscalls/sys_enter_openat"` for `tp`
   * @throws {BpfError} when the kernel refuses; `ENOENT` when it has no such tracepoint
   * @throws {TypeError} without a target, with two, with one of another form, or for a kind of program that has nothing to
   *   attach to
   */
  attach(target?: string): Link {
    const { kind, name, target: own } = this.#section;
    if (kind.attach === undefined) {
      throw new TypeError(
        `a program of section "${name}" is not attached by name: its fd is for that`,
      );
    }
    if (own !== undefined && target !== undefined) {
      throw new TypeError(
        `attach: section "${name}" names its target already, got ${describe(target)}`,
      );
    }
    const chosen = own ?? target;
    if (typeof chosen !== "string" || chosen === "") {
      throw new TypeError(
        `attach: section "${name}" needs a target such as "${kind.targetExample}", got ${describe(chosen)}`,
      );
    }
    checkTarget("attach", kind, chosen);
    return kind.attach(this, chosen);
  }

  /**
   * Runs the program without attaching it (kernel 4.12 for packets, 5.10 for raw tracepoints).
   *
   * @throws {BpfError} `EINVAL` for input that its type does not take, `ENOTSUPP` for a type that cannot be run
   */
  testRun(options: TestRunOptions = {}): TestRunResult {
    checkOptions("testRun", options, ["data", "ctx", "repeat"]);
    const { data, ctx, repeat } = options;
    for (const [name, bytes] of Object.entries({ data, ctx })) {
      if (bytes !== undefined && !(bytes instanceof Uint8Array)) {
        throw new TypeError(`${name}: expected a Uint8Array, got ${describe(bytes)}`);
      }
    }
    if (repeat !== undefined) checkCount("repeat", repeat, 1, 0xffffffff);
    const { contextComesBack } = this.#section.kind;
    const input = { data, context: ctx, contextComesBack, repeat: repeat ?? 0 };
    const { context, ...result } = testRunProgram(this.fd, input, `${this}`);
    return { ...result, ctx: context };
  }
}
