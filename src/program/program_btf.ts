/** @module Encodes the BTF, line information and CO-RE relocations of a program in the form that BPF_PROG_LOAD takes. */

import type { Assembled, FunctionPlace } from "../asm/assembler.ts";
import { LDDW } from "../asm/encode.ts";
import type { SourcePosition } from "../asm/instruction.ts";
import { AssemblerError } from "../asm/layout.ts";
import { BtfBuilder } from "../btf/builder.ts";
import { loadBtf } from "../ffi/bpf_btf.ts";
import type { ProgramBtf } from "../ffi/bpf_prog.ts";
import { bpfCoreRelocations } from "../uapi/enumerations.ts";
import { checkOptions } from "../check/arguments.ts";
import { describe } from "../check/describe.ts";
import { numbersByKeyword, suggest } from "../check/names.ts";
import type { ProgramBtfSpec } from "./program_spec.ts";

/** The BTF of a program before it is loaded, and the tables that refer to it: functions, lines, relocations. */
export interface EncodedProgramBtf extends Omit<ProgramBtf, "fd"> {
  readonly bytes: Uint8Array;
  /** False if the BTF only serves line information, so that the program loads without it. */
  readonly isNeeded: boolean;
}

/**
 * Encodes the types, lines and relocations of a program. Returns `undefined` for a program that has none of them and loads
 * without BTF.
 *
 * If the spec has no types, each function gets the type of a static function without parameters. The verifier requires no
 * more of a callback: the helper that calls it determines its arguments.
 *
 * @throws {TypeError} if the given bytes are not BTF, or a function has no type.
 * @throws {AssemblerError} if a relocation is of an unknown kind, or the spec has no types that it could refer to.
 */
export function encodeProgramBtf(
  program: Assembled,
  given?: ProgramBtfSpec,
): EncodedProgramBtf | undefined {
  const calls = program.instructions.flatMap(({ instruction: { opcode, reference } }) =>
    reference?.kind === "function" ? [{ opcode, name: reference.name }] : [],
  );
  const relocated = program.instructions.filter(
    ({ instruction }) => instruction.relocation !== undefined,
  );
  if (given === undefined && relocated.length > 0) {
    throw new AssemblerError(
      "a relocation refers to a type of the program, but the spec has no btf",
      relocated[0],
    );
  }
  const hasLines = program.sourceLines.length > 0;
  const isNeeded = given !== undefined || calls.some(({ opcode }) => opcode === LDDW);
  if (!isNeeded && !hasLines) return undefined;
  const used = new Set(calls.map(({ name }) => name));
  // The kernel requires one record for each function that is called or whose address is taken. It rejects other functions
  // as unreachable code.
  const functions = program.functions.filter(({ name }, index) => index === 0 || used.has(name));
  const { bytes, ids } =
    given === undefined ? staticFunctions(functions) : givenFunctions(functions, given);
  const strings = new BtfStrings(bytes);
  const lines = hasLines ? encodeLines(program, strings) : undefined;
  const relocations = relocated.flatMap((placed) => {
    const { relocation } = placed.instruction;
    if (relocation === undefined) return [];
    const { kind, typeId, access } = relocation;
    if (!Object.hasOwn(coreRelocationNumbers, kind)) {
      const known = Object.keys(coreRelocationNumbers);
      throw new AssemblerError(
        `relocation: unknown kind ${describe(kind)}: ${suggest(String(kind), known)}`,
        placed,
      );
    }
    return [placed.slot * 8, typeId, strings.offsetOf(access), coreRelocationNumbers[kind]];
  });
  return {
    bytes: strings.encode(),
    functions: words(functions.flatMap(({ slot }, index) => [slot, ids[index] as number])),
    lines,
    relocations: relocations.length === 0 ? undefined : words(relocations),
    isNeeded,
  };
}

const coreRelocationNumbers = numbersByKeyword(bpfCoreRelocations);

/**
 * Loads the BTF of a program. The program keeps a reference to it, so the caller can dispose of it after loading the program.
 *
 * @throws {BpfError} if the kernel refuses the BTF.
 */
export function loadProgramBtf(
  encoded: EncodedProgramBtf,
  what: string,
  tokenFd?: number,
): ProgramBtf & Disposable {
  const btf = loadBtf(encoded.bytes, what, tokenFd);
  return { ...encoded, fd: btf.fd, [Symbol.dispose]: () => btf[Symbol.dispose]() };
}

function words(numbers: readonly number[]): Uint8Array {
  return new Uint8Array(Uint32Array.from(numbers).buffer);
}

function staticFunctions(functions: readonly FunctionPlace[]) {
  const types = new BtfBuilder();
  const prototype = types.functionPrototype(types.int("int", 4, { isSigned: true }));
  const ids = functions.map(({ name }) => types.func(identifier(name), prototype, "static"));
  return { bytes: types.encode(), ids };
}

function givenFunctions(functions: readonly FunctionPlace[], spec: ProgramBtfSpec) {
  checkOptions("btf", spec, ["bytes", "functions"]);
  const { bytes, functions: types } = spec;
  if (typeof types !== "object" || types === null) {
    throw new TypeError(
      `btf: functions: expected an object of type ids by function name, got ${describe(types)}`,
    );
  }
  const ids = functions.map(({ name }) => {
    const id = Object.hasOwn(types, name) ? types[name] : undefined;
    if (id !== undefined) return id;
    throw new TypeError(
      `btf: functions: the type id of the function ${JSON.stringify(name)} is missing`,
    );
  });
  return { bytes, ids };
}

/** Maximum number of characters that all kernels accept in a name: KSYM_NAME_LEN - 1 before Linux 6.1. */
const maxNameLength = 127;

/** Makes a valid C identifier of a name, because btf_name_valid_identifier() in the kernel requires one. */
function identifier(name: string): string {
  const letters = name.replace(/[^A-Za-z0-9_]/g, "_").slice(0, maxNameLength - 1);
  if (letters === "") return "main";
  return /^[0-9]/.test(letters) ? `_${letters}` : letters;
}

/** Limits of `line_col` in `struct bpf_line_info`: 22 bits for the line, 10 bits for the column. */
const [maxLine, maxColumn] = [2 ** 22 - 1, 2 ** 10 - 1];

/**
 * Number of characters of a source line that are passed to the kernel, of at most three bytes each. Before Linux 6.5
 * (cff36398bd4c) a line of more than 1,022 bytes in the verifier's log triggers a kernel warning, which halts machines with
 * panic_on_warn.
 */
const maxTextLength = 255;

/** Encodes the source positions in the order of slots. The kernel requires one at the start of each function. */
function encodeLines(program: Assembled, strings: BtfStrings): Uint8Array {
  const positions = new Map(program.sourceLines.map(({ slot, source }) => [slot, source]));
  const file = program.sourceLines[0]?.source.file ?? "";
  for (const { slot } of program.functions) {
    if (positions.has(slot)) continue;
    positions.set(slot, program.bySlot[slot]?.instruction.source ?? { file, line: 0 });
  }
  const ordered = [...positions].sort(([one], [other]) => one - other);
  return words(
    ordered.flatMap(([slot, source]) => [
      slot,
      strings.offsetOf(source.file),
      strings.offsetOf(source.text?.slice(0, maxTextLength) ?? ""),
      positionWord(source),
    ]),
  );
}

function positionWord({ line, column = 0 }: SourcePosition): number {
  const shownLine = line > maxLine ? 0 : line;
  const shownColumn = column > maxColumn ? 0 : column;
  return ((shownLine << 10) | shownColumn) >>> 0;
}

/** Size of `struct btf_header` in bytes, and the offsets of its fields. Later versions may only append fields. */
const headerSize = 24;
const headerFields = {
  headerSize: 4,
  typeOffset: 8,
  typeSize: 12,
  stringOffset: 16,
  stringSize: 20,
} as const;

/** BTF with strings that can be extended, for lines and relocations. */
class BtfStrings {
  readonly #header: Uint8Array<ArrayBuffer>;
  readonly #types: Uint8Array;
  readonly #strings: Uint8Array[];
  readonly #offsets = new Map<string, number>([["", 0]]);
  #size: number;

  /** @throws {TypeError} if the bytes are not BTF. */
  constructor(bytes: Uint8Array) {
    if (!(bytes instanceof Uint8Array) || bytes.length < headerSize) {
      throw new TypeError("btf: bytes: expected raw BTF in a Uint8Array");
    }
    this.#header = bytes.slice(0, headerSize) as Uint8Array<ArrayBuffer>;
    const view = new DataView(this.#header.buffer);
    const fullHeaderSize = view.getUint32(headerFields.headerSize, true);
    const part = (offset: number, size: number) => {
      const start = fullHeaderSize + view.getUint32(offset, true);
      return bytes.subarray(start, start + view.getUint32(size, true));
    };
    this.#types = part(headerFields.typeOffset, headerFields.typeSize);
    const strings = part(headerFields.stringOffset, headerFields.stringSize);
    this.#strings = [strings];
    this.#size = strings.length;
  }

  /** Returns the offset of a string, and adds the string if it is new. Cuts it at a NUL; line feeds become spaces. */
  offsetOf(text: string): number {
    const string = (text.split("\0", 1)[0] ?? "").replaceAll("\n", " ");
    let offset = this.#offsets.get(string);
    if (offset === undefined) {
      offset = this.#size;
      this.#offsets.set(string, offset);
      const added = Buffer.from(`${string}\0`);
      this.#strings.push(added);
      this.#size += added.length;
    }
    return offset;
  }

  encode(): Uint8Array {
    const view = new DataView(this.#header.buffer);
    view.setUint32(headerFields.headerSize, headerSize, true);
    view.setUint32(headerFields.typeOffset, 0, true);
    view.setUint32(headerFields.stringOffset, this.#types.length, true);
    view.setUint32(headerFields.stringSize, this.#size, true);
    return Buffer.concat([this.#header, this.#types, ...this.#strings]);
  }
}
