import type { LiveMap } from "../asm/instruction.ts";
import { checkOptions } from "../check/arguments.ts";
import { bindMap, type ProgramTypeName } from "../ffi/bpf_prog.ts";
import { objectId } from "../ffi/bpf_object.ts";
import { type FdLike, fdOf } from "../handle/fd_like.ts";
import { describeOrigin, KernelObject, openObject, type Origin } from "../handle/kernel_object.ts";
import { attachBy } from "../link/attach_method.ts";
import type { Link } from "../link/link.ts";
import { describeProgram, type LiveProgram, loadProgram, type VerifierLog } from "./load.ts";
import type { MachineOptions } from "./load_options.ts";
import { checkLoadedWith } from "./load_target.ts";
import {
  type MachineFunction,
  readMachineCode,
  readTranslatedCode,
  type TranslatedFunction,
} from "./program_code.ts";
import { type ProgramInfo, readProgramInfo } from "./program_info.ts";
import { type ProgramSpec, programSpecNames } from "./program_spec.ts";
import type { AttachArguments, AttachedLink, SectionName } from "./section_types.ts";
import { parseSection, type Section } from "./sections.ts";
import { runProgram, type TestRunOptions, type TestRunResult } from "./test_run.ts";

/** Options of {@link Program}: a spec, the objects that it refers to, and the level of the verifier's log. */
export interface ProgramOptions<S extends SectionName = SectionName>
  extends ProgramSpec<S>, MachineOptions {
  /** The maps that the code refers to by name. */
  readonly maps?: Readonly<Record<string, LiveMap>>;
  /**
   * The loaded program whose function the section names: `freplace/NAME` replaces the function, and `fentry/NAME`, `fexit/NAME`
   * and `fsession/NAME` run at its calls. Finding the function needs CAP_SYS_ADMIN (Linux 5.5; `freplace` 5.6).
   *
   * @default a function of the kernel
   */
  readonly attachTo?: FdLike;
  /** The level of detail of the verifier's log in {@link Program.log}. @default "none" */
  readonly log?: VerifierLog;
}

/**
 * Options of {@link Program.open}, {@link Program.fromId} and {@link Program.fromFd}. There is no option for a read-only
 * descriptor: the kernel has read-only descriptors only for maps.
 */
export interface OpenProgramOptions<S extends SectionName = SectionName> {
  /** The section that the program was loaded with. {@link Program.attach} needs it, and the kernel does not store it. */
  readonly section?: S;
}

/**
 * A program in the kernel: accepted by the verifier, and ready to be attached or run.
 *
 * The program is closed when it is disposed of (`using`, or `program[Symbol.dispose]()`) or the process ends. Links and pins
 * keep it in the kernel after that.
 *
 * @throws {VerifierError} if the verifier rejects the program; the error has the verifier's reason.
 * @throws {BpfError} `EPERM` if a capability is missing that programs of this type need.
 * @throws {BpfError} if the kernel refuses the program for another reason.
 * @throws {AssemblerError} if a label or reference in the code does not resolve.
 * @throws {TypeError | RangeError} if an option is misspelt, of the wrong type or out of range.
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
 *
 * Requires Linux 4.13; program types came with different versions.
 */
export class Program<const S extends SectionName = SectionName> extends KernelObject {
  readonly #section: Section | undefined;
  /** The type of the program: `"sched_cls"`. */
  readonly type: ProgramTypeName;
  /** The name in the kernel; may be empty. */
  readonly name: string;
  /** The verifier's log at the level of the option `log`; at most its last 64 MiB. Empty without that option. */
  readonly log: string;

  /** @internal */
  constructor(options: undefined, live: LiveProgram);
  constructor(options: ProgramOptions<S>);
  constructor(options: ProgramOptions<S> | undefined, live: LiveProgram = loadOptions(options)) {
    super(live.descriptor, () => objectId("prog", live.descriptor), live.pinnedAt);
    this.#section = live.section;
    this.type = live.type;
    this.name = live.name;
    this.log = live.log;
  }

  /**
   * Opens a program that is pinned at a path.
   *
   * The kernel reports the program's type and name. Pass the section that it was loaded with to be able to attach it.
   *
   * @throws {BpfError} `ENOENT` if nothing is pinned there, `EPERM` if a name in the path has a dot.
   * @throws {TypeError} if the pinned object is not a program, or was not loaded with the given section.
   * @throws {BpfError} if the path is not on a BPF file system, or this user may not open the pin.
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
   *
   * Requires Linux 4.13.
   */
  static open<const S extends SectionName = SectionName>(
    path: string,
    options: OpenProgramOptions<S> = {},
  ): Program<S> {
    return openProgram({ path }, options);
  }

  /**
   * Opens a program by its id, which needs CAP_SYS_ADMIN.
   *
   * @throws {BpfError} `ENOENT` if there is no program with this id, `EPERM` without CAP_SYS_ADMIN.
   * @throws {TypeError} if the program was not loaded with the given section.
   *
   * Requires Linux 4.13.
   */
  static fromId<const S extends SectionName = SectionName>(
    id: number,
    options: OpenProgramOptions<S> = {},
  ): Program<S> {
    return openProgram({ id }, options);
  }

  /**
   * Opens the program that a file descriptor refers to. The descriptor is duplicated; the caller still has to close its own.
   *
   * @throws {TypeError} if the descriptor does not refer to a program, or the program was not loaded with the given section.
   *
   * Requires Linux 4.13.
   */
  static fromFd<const S extends SectionName = SectionName>(
    fd: number,
    options: OpenProgramOptions<S> = {},
  ): Program<S> {
    return openProgram({ fd }, options);
  }

  /** The section that the program was loaded with; `undefined` if it was opened without one. */
  get section(): string | undefined {
    return this.#section?.name;
  }

  protected shown(): readonly [className: string, properties: object] {
    const { type, name, section } = this;
    return ["Program", { type, name, section }];
  }

  /**
   * Reads the kernel's information about the program.
   *
   * @throws {BpfError} if the kernel refuses.
   *
   * Requires Linux 4.13.
   */
  info(): ProgramInfo {
    return readProgramInfo(this.fd, `${this}`);
  }

  /**
   * Reads the program's BPF instructions as the verifier has rewritten them, with source positions and names.
   *
   * @returns a list of functions; `undefined` if the kernel hides the instructions from this process: without CAP_BPF (before
   *   Linux 5.8 CAP_SYS_ADMIN), and those that it has blinded (net.core.bpf_jit_harden)
   * @throws {BpfError} if the kernel refuses.
   *
   * @example
   * ```ts
   * import { asm, disassemble, Program } from "bun-bpf";
   * using program = new Program({
   *   section: "socket",
   *   license: "GPL",
   *   code: [asm.withSource(asm.mov(asm.r0, 7), { file: "seven.ts", line: 1 }), asm.exit()],
   * });
   * for (const { name, instructions } of program.translatedCode() ?? []) {
   *   console.log(disassemble([asm.func(name), ...instructions]));
   * }
   * // func main
   * // ; @ seven.ts:1
   * //    0: (b7) r0 = 7
   * //    1: (95) exit
   * ```
   *
   * Requires Linux 4.13; names and source positions require Linux 5.0.
   */
  translatedCode(): TranslatedFunction[] | undefined {
    return readTranslatedCode(this.fd, `${this}`);
  }

  /**
   * Reads the program's machine code, with addresses and source positions.
   *
   * @returns a list of functions, which is empty if the kernel interprets the program; `undefined` if the kernel hides the code from
   *   this process: without CAP_BPF (before Linux 5.8 CAP_SYS_ADMIN), and where it hides its addresses (kernel.kptr_restrict)
   * @throws {BpfError} if the kernel refuses.
   *
   * @example
   * ```ts
   * import { asm, Program } from "bun-bpf";
   * using program = new Program({
   *   section: "socket",
   *   license: "GPL",
   *   code: [asm.mov(asm.r0, 7), asm.exit()],
   * });
   * for (const { name, bytes } of program.machineCode() ?? []) {
   *   console.log(name, bytes.length > 0); // func#0 true
   * }
   * ```
   *
   * Requires Linux 4.18; names and source positions require Linux 5.0.
   */
  machineCode(): MachineFunction[] | undefined {
    return readMachineCode(this.fd, `${this}`);
  }

  /**
   * Attaches the program in the way of its section. It runs until the returned link is disposed of, unless the link is pinned.
   *
   * @param args the options of the section: the target, if the section does not name it, and others such as `cookie`
   * @throws {BpfError} `ENOENT` if the kernel has no such target.
   * @throws {BpfError} if the kernel refuses for another reason.
   * @throws {TypeError | RangeError} if an option is missing or wrong, or stands for a target that the section names already.
   * @throws {TypeError} if bun-bpf cannot attach programs of this section, or the program was opened without its section.
   *
   * @example
   * ```ts
   * import { asm, Program } from "bun-bpf";
   * using program = new Program({
   *   section: "raw_tp",
   *   license: "GPL",
   *   code: [asm.mov(asm.r0, 0), asm.exit()],
   * });
   * using link = program.attach({ tracepoint: "sched_process_exec" });
   * console.log(`${link}`); // raw_tp link to sched_process_exec
   * ```
   *
   * Requires Linux 4.13; ways to attach came with different versions.
   */
  attach(...args: AttachArguments<S>): AttachedLink<S> {
    if (this.#section === undefined) {
      // A disposed program throws DisposedError here, before any other error.
      void this.fd;
      throw new TypeError(
        `attach: the ${this} was opened without its section: pass the section that it was loaded with, as in Program.open(path, { section: "tp/sched/sched_switch" }), or use attachAs()`,
      );
    }
    return this.#attachIn(this.#section, args[0]) as AttachedLink<S>;
  }

  /**
   * Attaches the program in the way of a section that the program was not opened with.
   *
   * @param section the section that the program was loaded with, or another one for programs of its type
   * @throws {TypeError} if programs of the section have another type or target.
   * @throws {TypeError | RangeError | BpfError} as {@link attach}.
   *
   * Requires Linux 4.13; ways to attach came with different versions.
   */
  attachAs<const As extends SectionName>(
    section: As,
    ...args: AttachArguments<As>
  ): AttachedLink<As> {
    const parsed = parseSection(section);
    checkLoadedWith(parsed, this.info(), `the ${this}`);
    return this.#attachIn(parsed, args[0]) as AttachedLink<As>;
  }

  #attachIn(section: Section, options: object = {}): Link {
    const { name, row } = section;
    if (row.method === undefined) {
      throw new TypeError(
        `attach: bun-bpf cannot attach programs of section "${name}": ${row.otherUse}`,
      );
    }
    return attachBy(row.method, section, this, row.attachType, options);
  }

  /**
   * Binds a map to the program although its code does not refer to it: the kernel keeps the map as long as the program, and lists it
   * in {@link ProgramInfo.mapIds}. Tools store metadata of programs in such maps.
   *
   * @param map a map, or its descriptor
   * @throws {BpfError} `EINVAL` if the descriptor is not that of a map, and before Linux 5.10.
   * @throws {TypeError | RangeError} if `map` is neither a map nor a descriptor.
   *
   * @example
   * ```ts
   * import { ArrayMap, asm, Program, t } from "bun-bpf";
   * using program = new Program({
   *   section: "socket",
   *   license: "GPL",
   *   code: [asm.mov(asm.r0, 0), asm.exit()],
   * });
   * using metadata = new ArrayMap({ value: t.u32, length: 1 });
   * program.bind(metadata);
   * console.log(program.info().mapIds?.includes(metadata.id)); // true
   * ```
   *
   * Requires Linux 5.10.
   */
  bind(map: FdLike): this {
    bindMap(this.fd, fdOf(map, "a map"), `${this}`);
    return this;
  }

  /**
   * Runs the program without attaching it, with the given input (BPF_PROG_TEST_RUN).
   *
   * @throws {BpfError} `EINVAL`, `EMSGSIZE` or `ENOMEM` if programs of this type do not accept the input.
   * @throws {BpfError} `ENOTSUPP` if the kernel has no test runs for programs of this type, `EFAULT` for those of `tp_btf`.
   * @throws {TypeError | RangeError} if an option is misspelt, of the wrong type or out of range.
   *
   * Requires Linux 4.13 for programs that get packets, 5.10 for raw tracepoints, 5.14 for `syscall`.
   */
  testRun(options: TestRunOptions = {}): TestRunResult {
    return runProgram(this, options);
  }
}

function loadOptions(options: ProgramOptions | undefined): LiveProgram {
  checkOptions("Program", options as ProgramOptions, [
    ...programSpecNames,
    "maps",
    "attachTo",
    "log",
    "interface",
    "fdArray",
    "token",
    "signature",
    "keyringId",
  ]);
  return loadProgram(options as ProgramOptions, options);
}

function openProgram<S extends SectionName>(
  origin: Origin,
  options: OpenProgramOptions<S>,
): Program<S> {
  checkOptions("Program", options, ["section"]);
  const section = options.section === undefined ? undefined : parseSection(options.section);
  const descriptor = openObject("prog", origin, "program");
  try {
    const info = readProgramInfo(descriptor.fd, descriptor.what);
    if (section !== undefined)
      checkLoadedWith(section, info, `the program ${describeOrigin(origin)}`);
    const { type, name } = info;
    descriptor.what = describeProgram(section?.name ?? type, name);
    const pinnedAt = "path" in origin ? origin.path : undefined;
    return new Program(undefined, { descriptor, type, name, section, log: "", pinnedAt });
  } catch (error) {
    descriptor[Symbol.dispose]();
    throw error;
  }
}
