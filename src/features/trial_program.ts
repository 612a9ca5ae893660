/** @module Programs that are loaded to find something out, and let go. */

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
  type ProgramTypeName,
  programTypeNumbers,
  tryLoadProgram,
} from "../ffi/bpf_prog.ts";
import { Descriptor } from "../ffi/descriptor.ts";
import { BpfError, errnoName } from "../ffi/error.ts";
import type { BtfTarget, SmallestProgram } from "../link/attach_kinds.ts";
import { encodeProgramBtf, loadProgramBtf } from "../program/program_btf.ts";
import { programTypes } from "../program/program_types.ts";
import { BPF_F_SLEEPABLE } from "../uapi/bpf.ts";
import { ENOENT } from "../uapi/errno.ts";
import { attempt } from "./attempt.ts";
import { Feature, type ProbeAnswer } from "./feature.ts";

/** Returns the id of a type in the kernel's BTF. @throws {BpfError} `ENOENT` where the kernel has no such type, or no BTF */
export function kernelTypeId(kind: BtfTarget["kind"], name: string): number {
  // The kernel, too, takes the first one, should there be several.
  const [id] = Btf.kernel().findAll(kind, name);
  if (id === undefined) throw noSuchType(kind, name);
  return id;
}

/** Returns the index of a member of a struct of the kernel. @throws {BpfError} `ENOENT` where it has no such member */
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

/** A program for a trial. */
export interface TrialProgram extends SmallestProgram {
  /** Instead of one that returns 0. */
  readonly code?: Code;
}

/** Returns 0, which every type of program may. */
export const returnZero: Code = [asm.mov(asm.r0, 0), asm.exit()];

const resolver: Resolver = {
  kernelSymbol: (name) => ({ id: kernelTypeId("var", name) }),
  kernelFunction: (name) => ({ id: kernelTypeId("func", name) }),
};

/** Loads a program. @throws {BpfError} with what the kernel answers; `ENOENT` where it has no such target */
export function loadTrial(program: TrialProgram): Descriptor {
  const { type } = program;
  const result = type === "ext" ? tryExtension() : tryTrial(program, 0);
  if ("fd" in result) return new Descriptor(result.fd, `${type} program of a trial`);
  throw bpfError("BPF_PROG_LOAD", result.errno, { doing: `load a program of type ${type}` });
}

/** @throws {BpfError} `ENOENT` where the kernel has no such target */
function tryTrial(program: TrialProgram, logLevel: number): LoadResult {
  const { type, attachType, target, code = returnZero, isSleepable = false } = program;
  const targetId = target === undefined ? 0 : kernelTypeId(target.kind, target.name);
  const assembled = assemble(code, resolver);
  const encoded = encodeProgramBtf(assembled);
  using btf = encoded && loadProgramBtf(encoded, "types of a trial");
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
      name: "trial",
      btf,
    },
    logLevel,
  );
}

/** A program that calls a function of its own. */
const extensible: Code = [
  asm.func("main"),
  asm.callFunction("replaceable"),
  asm.exit(),
  asm.func("replaceable"),
  ...returnZero,
];

/** The functions of both programs: they return a number, as all that can be replaced have to say. */
const functionTypes = new BtfBuilder();
const prototype = functionTypes.functionPrototype(functionTypes.int("int", 4, { isSigned: true }));
const mainId = functionTypes.func("main", prototype, "global");
const replaceableId = functionTypes.func("replaceable", prototype, "global");

/** Loads a program with a function that another program can take the place of (kernel 5.6). @throws {BpfError} */
export function loadExtensible(): Descriptor {
  const { bytes, functions } = assemble(extensible);
  const records = [functions[0]?.slot ?? 0, mainId, functions[1]?.slot ?? 0, replaceableId];
  const result = tryTyped("socket_filter", bytes, records);
  if ("fd" in result) return new Descriptor(result.fd, "program of a trial");
  throw bpfError("BPF_PROG_LOAD", result.errno, { doing: "load a program with a global function" });
}

/** Loads a program to take the place of a function of another one, which it keeps alive. @throws {BpfError} */
function tryExtension(): LoadResult {
  using extended = loadExtensible();
  const attachment = { attachProgramFd: extended.fd, attachBtfId: replaceableId };
  return tryTyped("ext", assemble(returnZero).bytes, [0, replaceableId], attachment);
}

/** @param records pairs of the slot that a function begins at, and its type */
function tryTyped(
  type: ProgramTypeName,
  instructions: Uint8Array,
  records: readonly number[],
  attachment: { readonly attachProgramFd?: number; readonly attachBtfId?: number } = {},
): LoadResult {
  using btf = loadBtf(functionTypes.encode(), "types of a trial");
  const functions = new Uint8Array(Uint32Array.from(records).buffer);
  return tryLoadProgram(
    {
      type: programTypeNumbers[type],
      instructions,
      license: "GPL",
      name: "trial",
      btf: { fd: btf.fd, functions },
      ...attachment,
    },
    0,
  );
}

/** The verifier's answer to a program that was loaded to find something out. */
export interface ProbedLoad {
  /** The name of the error, or `undefined` for none. */
  readonly error: string | undefined;
  /** The verifier's log; empty where it was not asked. */
  readonly log: string;
}

/** Loads a program of a type, and lets it go. */
export function probeLoad(type: ProgramTypeName, code: Code = returnZero): ProbedLoad {
  try {
    const result = tryTrial({ type, ...programTypes[type], code }, 1);
    if ("errno" in result) return { error: errnoName(result.errno), log: result.log };
    new Descriptor(result.fd, "probed program")[Symbol.dispose]();
    return { error: undefined, log: result.log };
  } catch (error) {
    if (error instanceof BpfError) return { error: error.code, log: "" };
    throw error;
  }
}

/** Makes the feature of a type of programs: the smallest is loaded. Types that it does not know, the kernel refuses without a word. */
export function programTypeFeature(type: ProgramTypeName): Feature {
  const { since, config, needs } = programTypes[type];
  const probe = (): ProbeAnswer => {
    if (type === "ext") return attempt(() => loadTrial({ type })[Symbol.dispose]());
    const { error, log } = probeLoad(type);
    return error === undefined || log.trim() !== "" ? "available" : error;
  };
  return new Feature({ name: `program type ${type}`, since, config, needs, probe });
}
