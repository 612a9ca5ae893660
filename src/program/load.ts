/** @module The loader of programs: it turns specs from any producer into programs of the kernel. */

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
import { BpfError, errnoName, shortages } from "../ffi/error.ts";
import { explainer } from "../ffi/explanation.ts";
import { checkName } from "../handle/kernel_object.ts";
import { BPF_F_SLEEPABLE } from "../uapi/bpf.ts";
import { ENOENT, ENOSPC } from "../uapi/errno.ts";
import { type EncodedProgramBtf, encodeProgramBtf, loadProgramBtf } from "./program_btf.ts";
import type { ProgramSpec } from "./program_spec.ts";
import { programTypes } from "./program_types.ts";
import { parseSection, type Section } from "./sections.ts";
import { VerifierError } from "./verifier_error.ts";

/** The verifier's log levels, by the names that the option `log` takes. */
export const logLevels = {
  /** Nothing; a rejected program is loaded a second time to get the log of the error. */
  none: 0,
  /** Each instruction of the path that is rejected, with the verifier's state; for an accepted program, the statistics. */
  instructions: 1,
  /** Each instruction of every path with the state of all registers, also for an accepted program. */
  verbose: 2,
  /** A count of the verifier's work alone. */
  statistics: 4,
} as const;

/** The level of detail of the verifier's log in `Program.log`, whether or not it accepts the program. */
export type VerifierLog = keyof typeof logLevels;

/** A program in the kernel. */
export interface LiveProgram {
  readonly descriptor: Descriptor;
  readonly type: ProgramTypeName;
  readonly name: string;
  /** The section that it was loaded by; `undefined` for a program that was opened without one. */
  readonly section: Section | undefined;
  /** The verifier's log, if it was asked for. */
  readonly log: string;
  /** The path that it was opened at. */
  readonly pinnedAt?: string | undefined;
}

/** Options of {@link loadProgram}: the live objects that a spec refers to by name, and the log. */
export interface LoadOptions {
  /** The maps that the code refers to by name. */
  readonly maps?: Readonly<Record<string, LiveMap>>;
  /** The level of detail of the verifier's log on success. @default "none" */
  readonly log?: VerifierLog;
}

/**
 * Loads a program into the kernel.
 *
 * @throws {VerifierError} when the verifier rejects it
 * @throws {BpfError} when the kernel refuses it for another reason
 * @throws {AssemblerError} when labels or references of the code do not resolve
 * @throws {TypeError | RangeError} for an invalid spec
 */
export function loadProgram(
  spec: ProgramSpec,
  { maps = {}, log = "none" }: LoadOptions = {},
): LiveProgram {
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
  const btf = encodeProgramBtf(assembled, spec.btf);
  const what = describeProgram(spec.section, name);
  const { programType: type, attachType, isSleepable = false } = section.kind;
  const program: ProgramLoad = {
    type: programTypeNumbers[type],
    expectedAttachType: attachType === undefined ? 0 : attachTypeNumbers[attachType],
    attachBtfId: attachBtfId(section, what),
    flags: isSleepable ? BPF_F_SLEEPABLE : 0,
    instructions: assembled.bytes,
    license,
    name,
  };
  const { needs } = programTypes[type];
  const result = loadWithBtf(program, btf, logLevels[log], needs, what);
  if ("errno" in result) throw explain(result, type, assembled, needs, what);
  return { descriptor: new Descriptor(result.fd, what), type, name, section, log: result.log };
}

/** Describes a program for messages, by its section or its type. */
export function describeProgram(kind: string, name: string): string {
  return name === "" ? `${kind} program` : `${kind} program "${name}"`;
}

/** Loads a program with its BTF. Where the kernel rejects BTF that only names lines, loads the program without it. */
function loadWithBtf(
  program: ProgramLoad,
  encoded: EncodedProgramBtf | undefined,
  logLevel: number,
  needs: readonly Capability[],
  what: string,
): LoadResult {
  if (encoded === undefined) return loadOrAsk(program, logLevel, needs);
  try {
    using btf = loadProgramBtf(encoded, `types of the ${what}`);
    const result = loadOrAsk({ ...program, btf }, logLevel, needs);
    if (encoded.relocations !== undefined && "errno" in result) checkRelocated(result, what);
    if ("fd" in result || encoded.isNeeded || !isAboutBtf(result.log)) return result;
  } catch (error) {
    // Before kernel 4.18 there is no BTF, and before 5.0 none for functions.
    if (encoded.isNeeded || !(error instanceof BpfError)) throw error;
  }
  return loadOrAsk(program, logLevel, needs);
}

/** @throws {BpfError} where the kernel does not know of relocations */
function checkRelocated(
  { errno, log }: { readonly errno: number; readonly log: string },
  what: string,
) {
  if (errnoName(errno) !== "E2BIG" || log !== "") return;
  throw new BpfError({
    errno,
    syscall: "bpf(BPF_PROG_LOAD)",
    doing: `load the ${what}`,
    hint: "Its instructions have relocations, which the kernel resolves from version 5.17 on",
  });
}

/** Returns true for a refusal that came before the verifier looked at instructions: by the tables, or without a word. */
function isAboutBtf(log: string): boolean {
  return !/^\d+: \([0-9a-f]{2}\)/m.test(log) && (log.trim() === "" || /info|BTF/i.test(log));
}

/**
 * Loads a program with at most two calls, as each call verifies it again. The second one gets the log of a failure, or loads
 * without a log that did not fit.
 */
function loadOrAsk(
  program: ProgramLoad,
  logLevel: number,
  needs: readonly Capability[],
): LoadResult {
  const first = tryLoadProgram(program, logLevel);
  if ("fd" in first || lacksPrivilege(first.errno, needs)) return first;
  const hasReasoning = (logLevel & (logLevels.instructions | logLevels.verbose)) !== 0;
  if (hasReasoning && !isCut(first)) return first;
  if (hasReasoning) return { ...tryLoadProgram(program, logLevels.none), log: first.log };
  const second = tryLoadProgram(program, logLevels.instructions);
  // The reason of the first time (no memory, say) may be gone.
  if ("fd" in second) return { fd: second.fd, log: first.log };
  return { errno: isCut(second) ? first.errno : second.errno, log: second.log };
}

/** Returns true where the log did not fit, so that the verdict is not known. */
function isCut({ errno }: { readonly errno: number }): boolean {
  return errno === ENOSPC;
}

function lacksPrivilege(errno: number, needs: readonly Capability[]): boolean {
  if (errnoName(errno) !== "EPERM" || hasCapability("CAP_SYS_ADMIN")) return false;
  return !needs.every(hasCapability);
}

function explain(
  { errno, log }: Exclude<LoadResult, { readonly fd: number }>,
  type: ProgramTypeName,
  assembled: Assembled,
  needs: readonly Capability[],
  what: string,
): BpfError {
  // The verifier may have written a log before the resources ran out.
  if (log.trim() === "" || shortages.has(errnoName(errno))) {
    const hint =
      explainer()?.programType(type) ??
      `The kernel refuses the ${what} before looking at its instructions`;
    return loadError(errno, what, needs, hint);
  }
  const hint = explainer()?.helper(type, log);
  const options = { errno, syscall: "bpf(BPF_PROG_LOAD)", doing: `load the ${what}`, hint };
  return new VerifierError(options, log, assembled);
}

/** Returns the id of the type that programs of a section are loaded for; 0 for none. @throws {BpfError} `ENOENT` */
export function attachBtfId({ kind, target }: Section, what: string): number {
  if (kind.btfTypedefPrefix === undefined) return 0;
  // The kernel, too, takes the first one, should there be several.
  const name = `${kind.btfTypedefPrefix}${target}`;
  const [id] = Btf.kernel().findAll("typedef", name);
  if (id === undefined) {
    const near = Btf.kernel().suggestion(name, "typedef").replace(kind.btfTypedefPrefix, "");
    throw new BpfError({
      errno: ENOENT,
      syscall: "look-up in the kernel's BTF",
      doing: `load the ${what}`,
      hint: `This kernel has no tracepoint ${target}, or no type information for it${near}`,
    });
  }
  return id;
}

/** The suffix that turns the name of a ring buffer into that of the map with its count of lost events. */
const lostSuffix = ".lost";

/** Finds the maps that a program names among those given, and the kernel's symbols in its type information. */
function resolverOf(maps: Readonly<Record<string, LiveMap>>): Resolver {
  if (typeof maps !== "object" || maps === null) {
    throw new TypeError(`maps: expected an object of maps by name, got ${describe(maps)}`);
  }
  return {
    map: (reference: MapReference): number => {
      if (typeof reference !== "string") return mapFd(reference, "the code");
      const map = ownMap(maps, reference) ?? lossCounter(maps, reference);
      if (map === undefined) {
        throw new TypeError(
          `maps: the code refers to a map ${describe(reference)} that is not given: ${suggest(reference, Object.keys(maps))}`,
        );
      }
      return mapFd(map, `maps: ${describe(reference)}`);
    },
    kernelSymbol: (name: string): KernelReference => ({ id: kernelBtfId("var", name) }),
    kernelFunction: (name: string): KernelReference => ({ id: kernelBtfId("func", name) }),
  };
}

function ownMap(maps: Readonly<Record<string, LiveMap>>, name: string): LiveMap | undefined {
  return Object.hasOwn(maps, name) ? maps[name] : undefined;
}

/** Returns the counter of the map `"events"` for `"events.lost"`, where no map has that name. */
function lossCounter(
  maps: Readonly<Record<string, LiveMap>>,
  reference: string,
): LiveMap | undefined {
  if (!reference.endsWith(lostSuffix)) return undefined;
  const name = reference.slice(0, -lostSuffix.length);
  const map = ownMap(maps, name);
  if (map === undefined) return undefined;
  const counter = map.lost;
  if (counter !== undefined) return counter;
  throw new TypeError(
    `maps: the code counts lost events of ${describe(name)}, but that is ${describe(map)} and has no counter for them: give a RingBuf, or a map to count in as ${describe(reference)}: a PerCpuArrayMap of one t.u64Number`,
  );
}

/** Returns the descriptor of a map, checked: for a wrong one the kernel's error would blame the program. */
function mapFd(map: LiveMap, where: string): number {
  const { fd } = map;
  if (!Number.isInteger(fd) || (objectKind(fd) ?? "map") !== "map") {
    throw new TypeError(`${where}: expected a map, but its fd ${describe(fd)} is not one's`);
  }
  return fd;
}

function kernelBtfId(kind: "var" | "func", name: string): number {
  // libbpf, too, takes the first one, should there be several.
  const [id] = Btf.kernel().findAll(kind, name);
  if (id === undefined)
    throw new RangeError(
      `the kernel's type information has no ${kind} ${name}${Btf.kernel().suggestion(name, kind)}`,
    );
  return id;
}
