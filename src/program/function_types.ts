/** @module Type information for programs that hand their own functions to helpers as callbacks. */

import { functionRecordSize } from "../ffi/bpf_prog.ts";
import {
  BTF_FUNC_STATIC,
  BTF_INT_SIGNED,
  BTF_KIND_FUNC,
  BTF_KIND_FUNC_PROTO,
  BTF_KIND_INT,
  BTF_MAGIC,
  BTF_VERSION,
} from "../uapi/btf.ts";
import type { Assembled, FunctionPlace } from "./assembler.ts";
import { LDDW } from "./opcode.ts";

/** What BPF_PROG_LOAD wants to know of functions. */
export interface FunctionTypes {
  /** BTF in its raw form. */
  readonly btf: Uint8Array;
  /** An array of `struct bpf_func_info`. */
  readonly records: Uint8Array;
}

const headerSize = 24;
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
  let strings = "\0";
  const addString = (text: string): number => {
    const offset = strings.length;
    strings += `${text}\0`;
    return offset;
  };
  const int = 1;
  const prototype = 2;
  const words = [
    // int: 32 bits, signed.
    ...[addString("int"), BTF_KIND_INT << 24, 4, (BTF_INT_SIGNED << 24) | 32],
    // int (): a function's parameters may stay unsaid.
    ...[0, BTF_KIND_FUNC_PROTO << 24, int],
    ...functions.flatMap(({ name }) => [
      addString(identifier(name)),
      (BTF_KIND_FUNC << 24) | BTF_FUNC_STATIC,
      prototype,
    ]),
  ];
  const records = functions.flatMap(({ slot }, index) => [slot, prototype + 1 + index]);
  const typeLength = words.length * 4;
  const btf = new Uint8Array(headerSize + typeLength + strings.length);
  const view = new DataView(btf.buffer);
  view.setUint16(0, BTF_MAGIC, true);
  view.setUint8(2, BTF_VERSION);
  for (const [index, word] of [
    headerSize,
    ...[0, typeLength],
    ...[typeLength, strings.length],
    ...words,
  ].entries()) {
    view.setUint32(4 + index * 4, word, true);
  }
  btf.set(Buffer.from(strings, "latin1"), headerSize + typeLength);
  return { btf, records: littleEndian(records) };
}

function littleEndian(words: readonly number[]): Uint8Array {
  const bytes = new Uint8Array((words.length / 2) * functionRecordSize);
  const view = new DataView(bytes.buffer);
  for (const [index, word] of words.entries()) view.setUint32(index * 4, word, true);
  return bytes;
}

/** A name that is one in C, as the kernel insists. */
function identifier(name: string): string {
  const letters = name.replace(/[^A-Za-z0-9_]/g, "_").slice(0, longestName - 1);
  if (letters === "") return "main";
  return /^[0-9]/.test(letters) ? `_${letters}` : letters;
}
