/** @module Loads the programs of probes, by the loader of all programs. */

import * as asm from "../asm/asm.ts";
import type { Code } from "../asm/instruction.ts";
import { Btf } from "../btf/btf.ts";
import { BtfBuilder } from "../btf/builder.ts";
import { bpfError } from "../ffi/bpf.ts";
import type { ProgramTypeName } from "../ffi/bpf_prog.ts";
import { Descriptor } from "../ffi/descriptor.ts";
import { BpfError, errnoName } from "../ffi/error.ts";
import { tryLoad } from "../program/load.ts";
import type { ProgramBtfSpec } from "../program/program_spec.ts";
import { programTypes } from "../program/program_types.ts";
import type { SectionName } from "../program/section_types.ts";
import { BPF_PROG_LOAD } from "../uapi/commands.ts";
import { ENOENT } from "../uapi/errno.ts";
import { attempt } from "./attempt.ts";
import { Feature, type ProbeAnswer } from "./feature.ts";

/**
 * Returns the id of a type in the kernel's BTF.
 *
 * @throws {BpfError} `ENOENT` if the kernel has no such type or no BTF.
 */
export function kernelTypeId(kind: "func" | "var" | "typedef" | "struct", name: string): number {
  // If several types have the name, the kernel uses the first one, too.
  const [id] = Btf.kernel().findAll(kind, name);
  if (id !== undefined) return id;
  throw new BpfError({
    errno: ENOENT,
    syscall: "look-up in the kernel's BTF",
    doing: `find the ${kind} ${name}`,
  });
}

/** A program that returns 0, a valid return value of all program types. */
export const returnZero: Code = [asm.mov(asm.r0, 0), asm.exit()];

/**
 * Loads the program of a probe.
 *
 * @throws {BpfError} if the kernel refuses; `ENOENT` if it has no such target.
 */
export function loadProbe(
  section: SectionName,
  code: Code = returnZero,
  { btf, attachTo }: { readonly btf?: ProgramBtfSpec; readonly attachTo?: Descriptor } = {},
): Descriptor {
  const spec = { section, ...probe, code, ...(btf && { btf }) };
  const result = tryLoad(spec, attachTo && { attachTo });
  if ("fd" in result) return new Descriptor(result.fd, `${section} program of a probe`);
  throw bpfError(BPF_PROG_LOAD, result.errno, { doing: `load a program of section ${section}` });
}

const probe = { name: "probe", license: "GPL" } as const;

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
  const functions = { main: mainId, replaceable: replaceableId };
  return loadProbe("socket", extensible, { btf: { bytes: functionTypes.encode(), functions } });
}

/** The result of loading the program of a probe. */
export interface ProbedLoad {
  /** The name of the error; `undefined` if the program was loaded. */
  readonly error: string | undefined;
  /** The verifier's log; empty if the program was not verified. */
  readonly log: string;
}

/** Bytes of the buffer for the verifier's log, which is short for a program of a few instructions. */
const logSize = 64 * 1024;

/** Loads a program of a type, and closes it. */
export function probeLoad(type: ProgramTypeName, code: Code = returnZero): ProbedLoad {
  const { section } = programTypes[type];
  try {
    const result = tryLoad({ section, ...probe, code }, { log: "instructions", logSize });
    if ("errno" in result) return { error: errnoName(result.errno), log: result.log };
    new Descriptor(result.fd, "probed program")[Symbol.dispose]();
    return { error: undefined, log: result.log };
  } catch (error) {
    if (error instanceof BpfError) return { error: error.code, log: "" };
    throw error;
  }
}

/** Loads a program that replaces a function of another program, and closes it. */
function loadExtension(): void {
  using attachTo = loadExtensible();
  loadProbe(programTypes.ext.section, returnZero, { attachTo })[Symbol.dispose]();
}

/** Makes the feature of a program type. Its probe loads the smallest program: if the verifier writes a log, the kernel has the type. */
export function programTypeFeature(type: ProgramTypeName): Feature {
  const { since, config, needs } = programTypes[type];
  const probe = (): ProbeAnswer => {
    if (type === "ext") return attempt(loadExtension);
    const { error, log } = probeLoad(type);
    return error === undefined || log.trim() !== "" ? "available" : error;
  };
  return new Feature({ name: `program type ${type}`, since, config, needs, probe });
}
