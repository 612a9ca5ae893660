/** @module Loads programs from specs, which are plain data. */

import { type Assembled, assemble, type KernelReference, type Resolver } from "../asm/assembler.ts";
import type { LiveMap, MapReference } from "../asm/instruction.ts";
import { Btf } from "../btf/btf.ts";
import { describe } from "../check/describe.ts";
import { suggest } from "../check/names.ts";
import { objectKind } from "../ffi/bpf_object.ts";
import {
  attachTypeNumbers,
  loadError,
  type LoadResult,
  type ProgramLoad,
  type ProgramTypeName,
  programTypeNumbers,
  tryLoadProgram,
} from "../ffi/bpf_prog.ts";
import { type Capability, hasCapability } from "../ffi/capabilities.ts";
import { Descriptor } from "../ffi/descriptor.ts";
import { BpfError, errnoName, resourceErrors } from "../ffi/error.ts";
import { explainer } from "../ffi/explanation.ts";
import { isKernelSince, kernelRelease } from "../ffi/kernel.ts";
import type { FdLike } from "../handle/fd_like.ts";
import { checkName } from "../handle/kernel_object.ts";
import { ENOSPC } from "../uapi/errno.ts";
import { explainLoadFields, loadFields, type MachineOptions } from "./load_options.ts";
import { findLoadTarget } from "./load_target.ts";
import { type EncodedProgramBtf, encodeProgramBtf, loadProgramBtf } from "./program_btf.ts";
import type { ProgramSpec } from "./program_spec.ts";
import { programTypes } from "./program_types.ts";
import { parseSection, type Section } from "./sections.ts";
import { VerifierError } from "./verifier_error.ts";

/** The verifier's log levels, by the names that the option `log` takes. */
const logLevels = {
  /** No log. If the verifier rejects the program, a second load gets a log for the error. */
  none: 0,
  /** Each instruction on the rejected path, with the verifier's state; only statistics if the program is accepted. */
  instructions: 1,
  /** Each instruction on every path, with the state of all registers, also if the program is accepted. */
  verbose: 2,
  /** Statistics only: the number of verified instructions and states. */
  statistics: 4,
} as const;

/** Level of detail of the verifier's log in `Program.log`. */
export type VerifierLog = keyof typeof logLevels;

/** A loaded program. */
export interface LiveProgram {
  readonly descriptor: Descriptor;
  readonly type: ProgramTypeName;
  readonly name: string;
  /** The section with which the program was loaded; `undefined` for a program that was opened without a section. */
  readonly section: Section | undefined;
  /** The verifier's log; empty if no log was requested. */
  readonly log: string;
  /** The path of the pin by which the program was opened. */
  readonly pinnedAt?: string | undefined;
}

/** Options of {@link loadProgram}: the objects that the spec refers to, and the level of the log. */
export interface LoadOptions extends MachineOptions {
  /** The maps that the code refers to by name. */
  readonly maps?: Readonly<Record<string, LiveMap>>;
  /** The loaded program whose function the section names. @default a function of the kernel */
  readonly attachTo?: FdLike;
  /** The level of detail of the verifier's log. @default "none" */
  readonly log?: VerifierLog;
  /** Size of the buffer for the log, in bytes. @default enough for every log, or for its end */
  readonly logSize?: number;
}

/** A program that is ready to be loaded. */
interface PreparedLoad {
  readonly section: Section;
  readonly assembled: Assembled;
  readonly btf: EncodedProgramBtf | undefined;
  readonly program: ProgramLoad;
  readonly what: string;
  readonly logLevel: number;
  readonly logSize: number | undefined;
  /** The objects that were opened for the load. {@link loadPrepared} closes them. */
  readonly opened: DisposableStack;
}

/**
 * Loads a program into the kernel.
 *
 * @throws {VerifierError} if the verifier rejects the program.
 * @throws {BpfError} if the kernel refuses the program for another reason.
 * @throws {AssemblerError} if a label or reference in the code does not resolve.
 * @throws {TypeError | RangeError} if the spec is invalid.
 */
export function loadProgram(spec: ProgramSpec, options: LoadOptions = {}): LiveProgram {
  const prepared = prepareLoad(spec, options);
  const result = loadPrepared(prepared);
  if ("errno" in result) throw refusalError(result, prepared);
  const { section, what } = prepared;
  return {
    descriptor: new Descriptor(result.fd, what),
    type: section.row.programType,
    name: spec.name ?? "",
    section,
    log: result.log,
  };
}

/**
 * Loads a program as {@link loadProgram} does, but returns the error of the kernel without an explanation. Probes need it, because
 * explanations come from probes.
 *
 * @returns the descriptor of the program, which the caller closes, or the error; and the verifier's log
 * @throws {BpfError | AssemblerError | TypeError | RangeError} as {@link loadProgram}, if the program does not get to the kernel.
 */
export function tryLoad(spec: ProgramSpec, options: LoadOptions = {}): LoadResult {
  return loadPrepared(prepareLoad(spec, options));
}

function prepareLoad(spec: ProgramSpec, options: LoadOptions): PreparedLoad {
  const { maps = {}, attachTo, log = "none", logSize } = options;
  const { code, license, name = "" } = spec;
  if (typeof license !== "string" || license.includes("\0")) {
    throw new TypeError(`license: expected a string such as "GPL", got ${describe(license)}`);
  }
  if (!Object.hasOwn(logLevels, log)) {
    throw new TypeError(
      `log: unknown ${describe(log)}: ${suggest(String(log), Object.keys(logLevels))}`,
    );
  }
  checkName(name);
  const section = parseSection(spec.section);
  const assembled = assemble(code, resolverOf(maps));
  const what = describeProgram(spec.section, name);
  using resources = new DisposableStack();
  const target = findLoadTarget(section, attachTo, what);
  resources.use(target.module);
  const btf = encodeProgramBtf(assembled, spec.btf ?? target.btf);
  const { programType: type, attachType } = section.row;
  const program: ProgramLoad = {
    type: programTypeNumbers[type],
    expectedAttachType:
      attachType === undefined ? (target.memberIndex ?? 0) : attachTypeNumbers[attachType],
    attachBtfId: target.typeId,
    attachFd: target.fd,
    ...loadFields(spec, options, section),
    instructions: assembled.bytes,
    license,
    name,
  };
  const logLevel = logLevels[log];
  const opened = resources.move();
  return { section, assembled, btf, program, what, logLevel, logSize, opened };
}

function loadPrepared(prepared: PreparedLoad): LoadResult {
  using _opened = prepared.opened;
  const result = loadWithBtf(prepared, prepared.program);
  if (prepared.section.row.isAttachTypeOptional !== true || !isUnknownAttachType(result)) {
    return result;
  }
  return loadWithBtf(prepared, { ...prepared.program, expectedAttachType: 0 });
}

/** Returns true if the kernel rejected the load before it verified the program, as for an attach type that it does not know. */
function isUnknownAttachType(result: LoadResult): boolean {
  return "errno" in result && errnoName(result.errno) === "EINVAL" && result.log.trim() === "";
}

/**
 * Describes a program for messages.
 *
 * @param kind its section or its type
 */
export function describeProgram(kind: string, name: string): string {
  return name === "" ? `${kind} program` : `${kind} program "${name}"`;
}

/** Loads a program with its BTF. If the kernel rejects BTF that only has line information, loads the program without BTF. */
function loadWithBtf(prepared: PreparedLoad, program: ProgramLoad): LoadResult {
  const { btf: encoded, what } = prepared;
  if (encoded === undefined) return loadWithRetry(prepared, program);
  try {
    using btf = loadProgramBtf(encoded, `types of the ${what}`, program.tokenFd);
    const result = loadWithRetry(prepared, { ...program, btf });
    if (encoded.relocations !== undefined && "errno" in result)
      checkRelocationSupport(result, what);
    if ("fd" in result || encoded.isNeeded || !isBtfRejection(result.log)) return result;
  } catch (error) {
    // Linux 4.18 added BPF_BTF_LOAD, and Linux 5.0 added function information of programs.
    if (encoded.isNeeded || !(error instanceof BpfError)) throw error;
  }
  return loadWithRetry(prepared, program);
}

/**
 * Checks for the error of kernels without CO-RE relocations.
 *
 * @throws {BpfError} if the kernel does not support the relocations.
 */
function checkRelocationSupport(
  { errno, log }: { readonly errno: number; readonly log: string },
  what: string,
) {
  if (errnoName(errno) !== "E2BIG" || log !== "") return;
  throw new BpfError({
    errno,
    syscall: "bpf(BPF_PROG_LOAD)",
    doing: `load the ${what}`,
    hint: "Its instructions have CO-RE relocations, which need Linux 5.17",
  });
}

/** Returns true if the kernel rejected the BTF: the log mentions the BTF or is empty, and shows no instruction. */
function isBtfRejection(log: string): boolean {
  return !/^\d+: \([0-9a-f]{2}\)/m.test(log) && (log.trim() === "" || /info|BTF/i.test(log));
}

/**
 * Loads a program with at most two calls, because each call verifies it again. The second call gets the log of a failure, or
 * repeats the load without a log if the log did not fit.
 */
function loadWithRetry(
  { section, logLevel, logSize }: PreparedLoad,
  program: ProgramLoad,
): LoadResult {
  const { needs } = programTypes[section.row.programType];
  const first = tryLoadProgram(program, logLevel, logSize);
  if ("fd" in first || lacksPrivilege(first.errno, needs)) return first;
  const logsInstructions = (logLevel & (logLevels.instructions | logLevels.verbose)) !== 0;
  if (logsInstructions && !isLogTruncated(first)) return first;
  if (logsInstructions) return { ...tryLoadProgram(program, logLevels.none), log: first.log };
  const second = tryLoadProgram(program, logLevels.instructions, logSize);
  // The second call succeeds if the cause of the first failure, such as a lack of memory, is gone.
  if ("fd" in second) return { fd: second.fd, log: first.log };
  return { errno: isLogTruncated(second) ? first.errno : second.errno, log: second.log };
}

/** Returns true if the log did not fit, in which case the kernel does not report the verifier's verdict. */
function isLogTruncated({ errno }: { readonly errno: number }): boolean {
  return errno === ENOSPC;
}

function lacksPrivilege(errno: number, needs: readonly Capability[]): boolean {
  if (errnoName(errno) !== "EPERM" || hasCapability("CAP_SYS_ADMIN")) return false;
  return !needs.every(hasCapability);
}

function refusalError(
  { errno, log }: Exclude<LoadResult, { readonly fd: number }>,
  { section, assembled, program, what }: PreparedLoad,
): BpfError {
  const { programType: type, since } = section.row;
  const { needs } = programTypes[type];
  const isTooOld =
    since === undefined || isKernelSince(since)
      ? undefined
      : `Programs of section "${section.name}" need Linux ${since}, and this is ${kernelRelease()}`;
  const code = errnoName(errno);
  // If memory ran out, the verifier may have written a log that does not say so.
  if (log.trim() === "" || resourceErrors.has(code) || isForbidden(code, log)) {
    const optionHint = explainLoadFields(program, code);
    if (optionHint !== undefined) return loadError(errno, what, needs, { [code]: optionHint });
    const hint =
      isTooOld ??
      explainer()?.programType(type) ??
      `The kernel rejected the ${what} before verifying its instructions`;
    return loadError(errno, what, needs, { EINVAL: hint });
  }
  const hint = isTooOld ?? explainer()?.helper(type, log);
  const options = { errno, syscall: "bpf(BPF_PROG_LOAD)", doing: `load the ${what}`, hint };
  return new VerifierError(options, log, assembled);
}

/**
 * Returns true if the kernel forbids the program before it looks at an instruction, so that the log has only statistics. Kernels
 * that refuse some programs in lockdown do so.
 */
function isForbidden(code: string, log: string): boolean {
  return code === "EPERM" && /^(?:func#0 @0\n)?processed 0 insns [^\n]*\s*$/.test(log);
}

/** Suffix of a ring buffer's name that names the map with the count of its lost events. */
const lostSuffix = ".lost";

/** Returns a resolver that finds maps by name among `maps`, and kernel symbols in the kernel's BTF. */
function resolverOf(maps: Readonly<Record<string, LiveMap>>): Resolver {
  if (typeof maps !== "object" || maps === null) {
    throw new TypeError(`maps: expected an object of maps by name, got ${describe(maps)}`);
  }
  return {
    map: (reference: MapReference): number => {
      if (typeof reference !== "string") return mapFd(reference, "the code");
      const map = findMap(maps, reference) ?? lossCounter(maps, reference);
      if (map === undefined) {
        throw new TypeError(
          `maps: the code refers to a map ${describe(reference)} that was not passed: ${suggest(reference, Object.keys(maps))}`,
        );
      }
      return mapFd(map, `maps: ${describe(reference)}`);
    },
    kernelSymbol: (name: string): KernelReference => ({ id: kernelBtfId("var", name) }),
    kernelFunction: (name: string): KernelReference => ({ id: kernelBtfId("func", name) }),
  };
}

function findMap(maps: Readonly<Record<string, LiveMap>>, name: string): LiveMap | undefined {
  return Object.hasOwn(maps, name) ? maps[name] : undefined;
}

/** Returns the loss counter of the map `"events"` for the name `"events.lost"`; `undefined` for other names. */
function lossCounter(
  maps: Readonly<Record<string, LiveMap>>,
  reference: string,
): LiveMap | undefined {
  if (!reference.endsWith(lostSuffix)) return undefined;
  const name = reference.slice(0, -lostSuffix.length);
  const map = findMap(maps, name);
  if (map === undefined) return undefined;
  const counter = map.lost;
  if (counter !== undefined) return counter;
  throw new TypeError(
    `maps: the code counts lost events of ${describe(name)}, but that is ${describe(map)}, which does not count them: pass a RingBuf, or pass a PerCpuArrayMap of one t.u64Number as ${describe(reference)}`,
  );
}

/** Returns the file descriptor of a map. Checks it, because the kernel's error for a wrong one does not name the map. */
function mapFd(map: LiveMap, where: string): number {
  const { fd } = map;
  if (!Number.isInteger(fd) || (objectKind(fd) ?? "map") !== "map") {
    throw new TypeError(
      `${where}: expected a map, but its fd ${describe(fd)} is not the file descriptor of a map`,
    );
  }
  return fd;
}

function kernelBtfId(kind: "var" | "func", name: string): number {
  // If several types have the name, libbpf uses the first one, too.
  const [id] = Btf.kernel().findAll(kind, name);
  if (id === undefined)
    throw new RangeError(
      `the kernel's type information has no ${kind} ${name}${Btf.kernel().suggestion(name, kind)}`,
    );
  return id;
}
