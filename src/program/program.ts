import type { LiveMap } from "../asm/instruction.ts";
import { checkOptions } from "../check/arguments.ts";
import { describe } from "../check/describe.ts";
import type { ProgramTypeName } from "../ffi/bpf_prog.ts";
import { objectId } from "../ffi/bpf_object.ts";
import { describeOrigin, KernelObject, openObject, type Origin } from "../handle/kernel_object.ts";
import type { Link } from "../link/link.ts";
import {
  attachBtfId,
  describeProgram,
  type LiveProgram,
  loadProgram,
  type VerifierLog,
} from "./load.ts";
import { type ProgramInfo, readProgramInfo } from "./program_info.ts";
import { type ProgramSpec, programSpecNames } from "./program_spec.ts";
import { checkTarget, parseSection, type Section } from "./sections.ts";
import { runProgram, type TestRunOptions, type TestRunResult } from "./test_run.ts";

/** Options of {@link Program}: a spec, and the live objects that it refers to. */
export interface ProgramOptions extends ProgramSpec {
  /** The maps that the code refers to by name. */
  readonly maps?: Readonly<Record<string, LiveMap>>;
  /** The level of detail of the verifier's log on success. @default "none" */
  readonly log?: VerifierLog;
}

/**
 * Options of {@link Program.open}, {@link Program.fromId} and {@link Program.fromFd}. All descriptors of a program have the same
 * rights: the kernel has read-only descriptors for maps only.
 */
export interface OpenProgramOptions {
  /** The section that the program was loaded by, for {@link Program.attach}: the kernel does not keep it. */
  readonly section?: string;
}

/**
 * A program in the kernel: accepted by the verifier, and ready to be attached or run.
 *
 * Kernel 3.18 for programs at all; each section says more. It lives until it is disposed of (`using`, or
 * `program[Symbol.dispose]()`) or the process ends; links keep the program alive in the kernel by themselves.
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
  readonly #section: Section | undefined;
  /** The type of program: `"sched_cls"`. */
  readonly type: ProgramTypeName;
  /** The name given at creation; may be empty. */
  readonly name: string;
  /** The verifier's log, if the option `log` asked for it; the last 64 MiB of a longer one. */
  readonly log: string;

  /** @internal */
  constructor(options: undefined, live: LiveProgram);
  constructor(options: ProgramOptions);
  constructor(options: ProgramOptions | undefined, live: LiveProgram = loadOptions(options)) {
    super(live.descriptor, () => objectId("prog", live.descriptor), live.pinnedAt);
    this.#section = live.section;
    this.type = live.type;
    this.name = live.name;
    this.log = live.log;
  }

  /**
   * Opens a program that is pinned at a path (kernel 4.13).
   *
   * Type and name come from the kernel. Only attaching needs the section by which the program was loaded.
   *
   * @throws {Error} when nothing is pinned there
   * @throws {TypeError} when the pinned object is not a program, or the section does not fit it
   * @throws {BpfError} when the path is not on a BPF file system, or this user may not open it
   *
   * @example
   * ```ts
   * import { asm, BpfFileSystem, Program } from "bun-bpf";
   * using bpffs = new BpfFileSystem();
   * using program = new Program({
   *   section: "socket",
   *   name: "seven",
   *   license: "GPL",
   *   code: [asm.mov(asm.r0, 7), asm.exit()],
   * });
   * program.pin(`${bpffs.path}/seven`);
   * using again = Program.open(`${bpffs.path}/seven`);
   * console.log(`${again}`, again.id === program.id); // socket_filter program "seven" true
   * console.log(again.testRun({ data: new Uint8Array(14) }).returnValue); // 7
   * ```
   */
  static open(path: string, options: OpenProgramOptions = {}): Program {
    return openProgram({ path }, options);
  }

  /** Opens a program by its id (kernel 4.13, CAP_SYS_ADMIN). @throws as {@link open}; {BpfError} `ENOENT` where there is none */
  static fromId(id: number, options: OpenProgramOptions = {}): Program {
    return openProgram({ id }, options);
  }

  /** Opens the program of a descriptor, by a duplicate: the descriptor itself stays the caller's. @throws as {@link open} */
  static fromFd(fd: number, options: OpenProgramOptions = {}): Program {
    return openProgram({ fd }, options);
  }

  /** The name of the section that the program was loaded by; `undefined` where it was opened without one. */
  get section(): string | undefined {
    return this.#section?.name;
  }

  protected shown(): readonly [className: string, properties: object] {
    const { type, name, section } = this;
    return ["Program", { type, name, section }];
  }

  /** Asks the kernel about the program (kernel 4.13). */
  info(): ProgramInfo {
    return readProgramInfo(this.fd, `${this}`);
  }

  /**
   * Attaches the program. It runs from now on, until the link is disposed of.
   *
   * @param target the target, where the section's name has none: `"syscalls/sys_enter_openat"` for `tp`
   * @throws {BpfError} when the kernel refuses; `ENOENT` when the kernel has no such tracepoint
   * @throws {TypeError} for a target that is missing, given twice or malformed, for a section that is not attached by name,
   *   and for a program that was opened without its section
   */
  attach(target?: string): Link {
    if (this.#section === undefined) {
      // A disposed one says so first, as everywhere.
      void this.fd;
      throw new TypeError(
        `attach: the ${this} was opened without its section: give that, as in Program.open(path, { section: "tp/sched/sched_switch" })`,
      );
    }
    const { kind, name, target: own } = this.#section;
    if (kind.attachment === undefined) {
      throw new TypeError(
        `attach: a program of section "${name}" is not attached by name: pass its fd to the call that attaches it`,
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
        `attach: section "${name}" needs a target such as "${kind.attachment.targetExample}", got ${describe(chosen)}`,
      );
    }
    checkTarget("attach", kind.attachment, chosen);
    return kind.attachment.attach(this, chosen);
  }

  /**
   * Runs the program without attaching it (kernel 4.12 for packets, 5.10 for raw tracepoints).
   *
   * @throws {BpfError} `EINVAL` (`EMSGSIZE`, `ENOMEM`) for input that its type does not accept, `ENOTSUPP` for a type that
   *   cannot be run
   * @throws {TypeError | RangeError} for options that are misspelt, of the wrong type or out of range
   */
  testRun(options: TestRunOptions = {}): TestRunResult {
    return runProgram(this, options);
  }
}

function loadOptions(options: ProgramOptions | undefined): LiveProgram {
  checkOptions("Program", options as ProgramOptions, [...programSpecNames, "maps", "log"]);
  return loadProgram(options as ProgramOptions, options);
}

function openProgram(origin: Origin, options: OpenProgramOptions): Program {
  checkOptions("Program", options, ["section"]);
  const section = options.section === undefined ? undefined : parseSection(options.section);
  const descriptor = openObject("prog", origin, "program");
  try {
    const info = readProgramInfo(descriptor.fd, descriptor.what);
    if (section !== undefined) checkFits(section, info, describeOrigin(origin));
    const { type, name } = info;
    descriptor.what = describeProgram(section?.name ?? type, name);
    const pinnedAt = "path" in origin ? origin.path : undefined;
    return new Program(undefined, { descriptor, type, name, section, log: "", pinnedAt });
  } catch (error) {
    descriptor[Symbol.dispose]();
    throw error;
  }
}

/** @throws {TypeError} where a program was loaded by another section */
function checkFits(section: Section, info: ProgramInfo, where: string): void {
  const { name, kind } = section;
  if (kind.programType !== info.type) {
    throw new TypeError(
      `the program ${where} does not fit: its type is ${info.type}, and section "${name}" is for ${kind.programType}`,
    );
  }
  // What it was loaded for is told from kernel 5.17 on.
  if (kind.btfTypedefPrefix === undefined || info.target === undefined) return;
  if (info.target.typeId === attachBtfId(section, `${name} program`)) return;
  throw new TypeError(
    `the program ${where} does not fit: it was loaded for something else than section "${name}"`,
  );
}
