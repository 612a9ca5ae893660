/** @module Type information for programs that hand their own functions to helpers as callbacks. */

import { BtfBuilder } from "../btf/builder.ts";
import type { Assembled, FunctionPlace } from "../asm/assembler.ts";
import { LDDW } from "../asm/encode.ts";

/** What BPF_PROG_LOAD wants to know of functions. */
export interface FunctionTypes {
  /** BTF in its raw form. */
  readonly btf: Uint8Array;
  /** An array of `struct bpf_func_info`. */
  readonly records: Uint8Array;
}

/** Longest name that the kernel takes for a function. */
const longestName = 127;

/**
 * The types that the verifier asks for when the address of a function is taken (`ldFunc`); `undefined` where none is, so
 * that all other programs load without them.
 *
 * It wants each function named and known as static: what a callback is called with, it knows from the helper.
 */
export function functionTypes(program: Assembled): FunctionTypes | undefined {
  const references = program.instructions.flatMap(({ instruction: { opcode, reference } }) =>
    reference?.kind === "function" ? [{ opcode, name: reference.name }] : [],
  );
  if (!references.some(({ opcode }) => opcode === LDDW)) return undefined;
  const used = new Set(references.map(({ name }) => name));
  // The kernel counts the functions that are called or taken; the rest is dead code, which it refuses by itself.
  const functions = program.functions.filter(({ name }, index) => index === 0 || used.has(name));
  return encodeTypes(functions);
}

function encodeTypes(functions: readonly FunctionPlace[]): FunctionTypes {
  const types = new BtfBuilder();
  const prototype = types.functionPrototype(types.int("int", 4, { isSigned: true }));
  const records = functions.flatMap(({ name, slot }) => [
    slot,
    types.func(identifier(name), prototype, "static"),
  ]);
  return { btf: types.encode(), records: new Uint8Array(Uint32Array.from(records).buffer) };
}

/** A name that is one in C, as the kernel insists. */
function identifier(name: string): string {
  const letters = name.replace(/[^A-Za-z0-9_]/g, "_").slice(0, longestName - 1);
  if (letters === "") return "main";
  return /^[0-9]/.test(letters) ? `_${letters}` : letters;
}
