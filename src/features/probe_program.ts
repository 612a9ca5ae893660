/** @module Loads the programs of probes. */

import * as asm from "../asm/asm.ts";
import { assemble, type Resolver } from "../asm/assembler.ts";
import type { Code } from "../asm/instruction.ts";
import { Btf } from "../btf/btf.ts";
import { BtfBuilder } from "../btf/builder.ts";
import { bpfError } from "../ffi/bpf.ts";
import { loadBtf } from "../ffi/bpf_btf.ts";
import {
  attachTypeNumbers,
  type LoadResult,
  type LogLevel,
  type ProgramTypeName,
  programTypeNumbers,
  tryLoadProgram,
} from "../ffi/bpf_prog.ts";
import { Descriptor } from "../ffi/descriptor.ts";
import { BpfError, errnoName } from "../ffi/error.ts";
import type { BtfTarget, SmallestProgram } from "../link/attach_kinds.ts";
import { encodeProgramBtf, loadProgramBtf } from "../program/program_btf.ts";
import { programTypes } from "../program/program_types.ts";
import { BPF_PROG_LOAD } from "../uapi/commands.ts";
import { BPF_F_SLEEPABLE } from "../uapi/bpf.ts";
import { ENOENT } from "../uapi/errno.ts";
import { attempt } from "./attempt.ts";
import { Feature, type ProbeAnswer } from "./feature.ts";

/**
 * Returns the id of a type in the kernel's BTF.
 *
 * @throws {BpfError} `ENOENT` if the kernel has no such type or no BTF.
 */
export function kernelTypeId(kind: BtfTarget["kind"], name: string): number {
  // If several types have the name, the kernel uses the first one, too.
  const [id] = Btf.kernel().findAll(kind, name);
  if (id === undefined) throw noSuchType(kind, name);
  return id;
}

/**
 * Returns the index of a member of a struct of the kernel.
 *
 * @throws {BpfError} `ENOENT` if the struct has no such member.
 */
function memberIndex(structId: number, { kind, name, member }: BtfTarget): number {
  const members = Btf.kernel().members(structId);
  const index = members.findIndex((candidate) => candidate.name === member);
  if (index === -1) throw noSuchType(kind, `${name}.${member}`);
  return index;
}

function noSuchType(kind: string, name: string): BpfError {
  return new BpfError({
    errno: ENOENT,
    syscall: "look-up in the kernel's BTF",
    doing: `find the ${kind} ${name}`,
  });
}

/** The program of a probe. */
export interface ProbeProgram extends SmallestProgram {
  /** The code. @default a program that returns 0 */
  readonly code?: Code;
}

/** Bytes of the buffer for the verifier's log, which is short for a program of a few instructions. */
const logSize = 64 * 1024;

/** A program that returns 0, a valid return value of all program types. */
export const returnZero: Code = [asm.mov(asm.r0, 0), asm.exit()];

const resolver: Resolver = {
  kernelSymbol: (name) => ({ id: kernelTypeId("var", name) }),
  kernelFunction: (name) => ({ id: kernelTypeId("func", name) }),
};

/**
 * Loads the program of a probe.
 *
 * @throws {BpfError} if the kernel refuses; `ENOENT` if it has no such target.
 */
export function loadProbeProgram(program: ProbeProgram): Descriptor {
  const { type } = program;
  const result = type === "ext" ? tryLoadExtension() : tryLoadProbeProgram(program, 0);
  if ("fd" in result) return new Descriptor(result.fd, `${type} program of a probe`);
  throw bpfError(BPF_PROG_LOAD, result.errno, { doing: `load a program of the type ${type}` });
}

/**
 * Loads the program of a probe.
 *
 * @throws {BpfError} `ENOENT` if the kernel has no such target.
 */
function tryLoadProbeProgram(program: ProbeProgram, logLevel: LogLevel): LoadResult {
  const { type, attachType, target, code = returnZero, isSleepable = false } = program;
  const targetId = target === undefined ? 0 : kernelTypeId(target.kind, target.name);
  const assembled = assemble(code, resolver);
  const encoded = encodeProgramBtf(assembled);
  using btf = encoded && loadProgramBtf(encoded, "types of a probe");
  return tryLoadProgram(
    {
      type: programTypeNumbers[type],
      expectedAttachType:
        attachType !== undefined
          ? attachTypeNumbers[attachType]
          : target?.member !== undefined
            ? memberIndex(targetId, target)
            : 0,
      attachBtfId: targetId,
      flags: isSleepable ? BPF_F_SLEEPABLE : 0,
      instructions: assembled.bytes,
      license: "GPL",
      name: "probe",
      btf,
    },
    logLevel,
    logSize,
  );
}

/** A program with a global function, which another program can replace. */
const extensible: Code = [
  asm.func("main"),
  asm.callFunction("replaceable"),
  asm.exit(),
  asm.func("replaceable"),
  ...returnZero,
];

/** The types of the functions in {@link extensible}. A function that can be replaced must return a number, and the
 * replacement has the same type. */
const functionTypes = new BtfBuilder();
const prototype = functionTypes.functionPrototype(functionTypes.int("int", 4, { isSigned: true }));
const mainId = functionTypes.func("main", prototype, "global");
const replaceableId = functionTypes.func("replaceable", prototype, "global");

/**
 * Loads a program with a function that another program can replace (kernel 5.6).
 *
 * @throws {BpfError} if the kernel refuses.
 */
export function loadExtensible(): Descriptor {
  const { bytes, functions } = assemble(extensible);
  const records = [functions[0]?.slot ?? 0, mainId, functions[1]?.slot ?? 0, replaceableId];
  const result = tryLoadWithTypes("socket_filter", bytes, records);
  if ("fd" in result) return new Descriptor(result.fd, "program of a probe");
  throw bpfError(BPF_PROG_LOAD, result.errno, { doing: "load a program with a global function" });
}

/**
 * Loads a program that replaces a function of another program. It keeps a reference to the other program.
 *
 * @throws {BpfError} if the kernel refuses the other program.
 */
function tryLoadExtension(): LoadResult {
  using extended = loadExtensible();
  const attachment = { attachFd: extended.fd, attachBtfId: replaceableId };
  return tryLoadWithTypes("ext", assemble(returnZero).bytes, [0, replaceableId], attachment);
}

/**
 * Loads a program with {@link functionTypes}.
 *
 * @param records pairs of the first slot of a function and its type id
 */
function tryLoadWithTypes(
  type: ProgramTypeName,
  instructions: Uint8Array,
  records: readonly number[],
  attachment: { readonly attachFd?: number; readonly attachBtfId?: number } = {},
): LoadResult {
  using btf = loadBtf(functionTypes.encode(), "types of a probe");
  const functions = new Uint8Array(Uint32Array.from(records).buffer);
  return tryLoadProgram(
    {
      type: programTypeNumbers[type],
      instructions,
      license: "GPL",
      name: "probe",
      btf: { fd: btf.fd, functions },
      ...attachment,
    },
    0,
  );
}

/** The result of loading the program of a probe. */
export interface ProbedLoad {
  /** The name of the error; `undefined` if the program was loaded. */
  readonly error: string | undefined;
  /** The verifier's log; empty if the program was not verified. */
  readonly log: string;
}

/** Loads a program of a type, and closes it. */
export function probeLoad(type: ProgramTypeName, code: Code = returnZero): ProbedLoad {
  try {
    const result = tryLoadProbeProgram({ type, ...programTypes[type], code }, 1);
    if ("errno" in result) return { error: errnoName(result.errno), log: result.log };
    new Descriptor(result.fd, "probed program")[Symbol.dispose]();
    return { error: undefined, log: result.log };
  } catch (error) {
    if (error instanceof BpfError) return { error: error.code, log: "" };
    throw error;
  }
}

/** Makes the feature of a program type. Its probe loads the smallest program: if the verifier writes a log, the kernel has the type. */
export function programTypeFeature(type: ProgramTypeName): Feature {
  const { since, config, needs } = programTypes[type];
  const probe = (): ProbeAnswer => {
    if (type === "ext") return attempt(() => loadProbeProgram({ type })[Symbol.dispose]());
    const { error, log } = probeLoad(type);
    return error === undefined || log.trim() !== "" ? "available" : error;
  };
  return new Feature({ name: `program type ${type}`, since, config, needs, probe });
}
