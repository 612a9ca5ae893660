/** @module What in the kernel's types a program is loaded for. */

import * as asm from "../asm/asm.ts";
import { assemble, type Resolver } from "../asm/assembler.ts";
import type { Code } from "../asm/instruction.ts";
import { Btf } from "../btf/btf.ts";
import { bpfError } from "../ffi/bpf.ts";
import { loadBtf } from "../ffi/bpf_btf.ts";
import { type FunctionInfo, tryLoadProgram } from "../ffi/bpf_prog.ts";
import { Descriptor } from "../ffi/descriptor.ts";
import { BpfError } from "../ffi/error.ts";
import { functionTypes } from "../program/function_types.ts";
import { bpfAttachTypes, bpfProgTypes } from "../uapi/enumerations.ts";
import { errnoNumbers } from "../uapi/errno.ts";

/** What in the kernel's types a program is for. */
export interface ProgramTarget {
  readonly kind: "func" | "var" | "typedef" | "struct";
  readonly name: string;
  /** Of a struct, the member that the program is for. */
  readonly member?: string;
}

/** Where a target is in the kernel's BTF. */
export interface FoundTarget {
  readonly id: number;
  readonly memberIndex: number | undefined;
}

/** @throws {BpfError} `ENOENT` where the kernel has no such type or member, or no BTF */
export function findTarget({ kind, name, member }: ProgramTarget): FoundTarget {
  const id = kernelTypeId(kind, name);
  if (member === undefined) return { id, memberIndex: undefined };
  const members = Btf.kernel().members(id);
  const memberIndex = members.findIndex((candidate) => candidate.name === member);
  if (memberIndex === -1) throw noSuchType(kind, `${name}.${member}`);
  return { id, memberIndex };
}

/** The id of a type in the kernel's BTF. @throws {BpfError} `ENOENT` where the kernel has no such type, or no BTF */
export function kernelTypeId(kind: ProgramTarget["kind"], name: string): number {
  const id = Btf.kernel().find(kind, name);
  if (id === undefined) throw noSuchType(kind, name);
  return id;
}

function noSuchType(kind: string, name: string): BpfError {
  return new BpfError({
    errno: errnoNumbers.ENOENT,
    syscall: "look-up in the kernel's BTF",
    doing: `find the ${kind} ${name}`,
  });
}

/** A program for a trial. */
export interface TrialProgram {
  readonly type: keyof typeof bpfProgTypes;
  readonly attachType?: keyof typeof bpfAttachTypes;
  readonly target?: ProgramTarget;
  /** Instead of one that returns 0. */
  readonly code?: Code;
  readonly flags?: number;
  /** The program whose function of this id it is for. */
  readonly extended?: { readonly fd: number; readonly functionId: number };
  /** Where it says more than the verifier asks for by itself. */
  readonly functionInfo?: FunctionInfo;
}

/** Returns 0, which every type of program may. */
export const returnZero: Code = [asm.mov(asm.r0, 0), asm.exit()];

const resolver: Resolver = {
  kernelSymbol: (name) => ({ id: kernelTypeId("var", name) }),
  kernelFunction: (name) => ({ id: kernelTypeId("func", name) }),
};

/** Loads a program. @throws {BpfError} with what the kernel answers; `ENOENT` where it has no such target */
export function loadTrial(program: TrialProgram): Descriptor {
  const { type, attachType, target, code = returnZero, flags = 0, extended } = program;
  const place = target === undefined ? undefined : findTarget(target);
  const assembled = assemble(code, resolver);
  const types = functionTypes(assembled);
  // The program keeps the kernel's copy of the types: this descriptor is for the load only.
  using btf = types && loadBtf(types.btf, "types of a trial");
  const functionInfo = btf && types && { btfFd: btf.fd, records: types.records };
  const result = tryLoadProgram(
    {
      type: bpfProgTypes[type],
      expectedAttachType:
        attachType === undefined ? (place?.memberIndex ?? 0) : bpfAttachTypes[attachType],
      attachBtfId: place?.id ?? extended?.functionId ?? 0,
      attachProgramFd: extended?.fd,
      flags,
      instructions: assembled.bytes,
      license: "GPL",
      name: "trial",
      functionInfo: program.functionInfo ?? functionInfo,
    },
    0,
  );
  if ("errno" in result) {
    throw bpfError("BPF_PROG_LOAD", result.errno, { doing: `load a program of type ${type}` });
  }
  return new Descriptor(result.fd, `${type} program of a trial`);
}
