/** @module The types of a program's functions, its lines and its relocations, in the form in which the kernel loads them. */

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

/** The BTF of a program before it is loaded, and the tables that refer to it. */
export interface EncodedProgramBtf extends Omit<ProgramBtf, "fd"> {
  readonly bytes: Uint8Array;
  /** False for BTF that only names lines: the program loads without it, too. */
  readonly isNeeded: boolean;
}

/**
 * Encodes the types, lines and relocations of a program; `undefined` for a program that has none of them, which loads without
 * BTF.
 *
 * Where the spec gives no types, each function is a static one without parameters: the verifier asks for no more where the
 * address of a function is taken, as it knows from the helper what a callback is called with.
 *
 * @throws {TypeError} for BTF that is not BTF, or lacks a function
 * @throws {AssemblerError} for a relocation of a program without types, or of an unknown kind
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
      "a relocation refers to the program's types, and its spec has no btf",
      relocated[0],
    );
  }
  const hasLines = program.sourceLines.length > 0;
  const isNeeded = given !== undefined || calls.some(({ opcode }) => opcode === LDDW);
  if (!isNeeded && !hasLines) return undefined;
  const used = new Set(calls.map(({ name }) => name));
  // The kernel counts the functions that are called or taken; the rest is dead code, which it refuses by itself.
  const functions = program.functions.filter(({ name }, index) => index === 0 || used.has(name));
  const { bytes, ids } = given === undefined ? staticFunctions(functions) : typed(functions, given);
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

/** Loads the BTF of a program: it is disposed of after the load, as the program keeps the kernel's copy. @throws {BpfError} */
export function loadProgramBtf(encoded: EncodedProgramBtf, what: string): ProgramBtf & Disposable {
  const btf = loadBtf(encoded.bytes, what);
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

function typed(functions: readonly FunctionPlace[], spec: ProgramBtfSpec) {
  checkOptions("btf", spec, ["bytes", "functions"]);
  const { bytes, functions: types } = spec;
  if (typeof types !== "object" || types === null) {
    throw new TypeError(`btf: functions: expected ids of types by name, got ${describe(types)}`);
  }
  const ids = functions.map(({ name }) => {
    const id = Object.hasOwn(types, name) ? types[name] : undefined;
    if (id !== undefined) return id;
    throw new TypeError(`btf: there is no type for the function ${JSON.stringify(name)}`);
  });
  return { bytes, ids };
}

/** Longest name that the kernel takes for a function. */
const longestName = 127;

/** Makes a name that is one in C, as the kernel insists. */
function identifier(name: string): string {
  const letters = name.replace(/[^A-Za-z0-9_]/g, "_").slice(0, longestName - 1);
  if (letters === "") return "main";
  return /^[0-9]/.test(letters) ? `_${letters}` : letters;
}

/** Greatest numbers that fit the kernel's word for a position, which holds the line above ten bits of the column. */
const [greatestLine, greatestColumn] = [2 ** 22 - 1, 2 ** 10 - 1];

/**
 * Number of characters of a line that the kernel gets: at most three bytes each. Before Linux 6.5 (cff36398bd4c) a line of
 * the verifier's log of more than 1,022 bytes makes the kernel warn of itself, which some machines are set up to halt for.
 */
const longestText = 255;

/** Encodes the source positions: in order of slots, and with one at the start of each function, without which none is taken. */
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
      strings.offsetOf(source.text?.slice(0, longestText) ?? ""),
      positionWord(source),
    ]),
  );
}

function positionWord({ line, column = 0 }: SourcePosition): number {
  const shownLine = line > greatestLine ? 0 : line;
  const shownColumn = column > greatestColumn ? 0 : column;
  return ((shownLine << 10) | shownColumn) >>> 0;
}

/** Bytes of `struct btf_header` that every version has, and the places of its fields. */
const headerSize = 24;
const headerFields = {
  headerSize: 4,
  typeOffset: 8,
  typeSize: 12,
  stringOffset: 16,
  stringSize: 20,
} as const;

/** BTF to whose strings others are added, for lines and relocations. */
class BtfStrings {
  readonly #header: Uint8Array<ArrayBuffer>;
  readonly #types: Uint8Array;
  readonly #strings: Uint8Array[];
  readonly #offsets = new Map<string, number>([["", 0]]);
  #size: number;

  /** @throws {TypeError} when the bytes are not BTF */
  constructor(bytes: Uint8Array) {
    if (!(bytes instanceof Uint8Array) || bytes.length < headerSize) {
      throw new TypeError("btf: expected BTF in its raw form, a Uint8Array");
    }
    this.#header = bytes.slice(0, headerSize) as Uint8Array<ArrayBuffer>;
    const view = new DataView(this.#header.buffer);
    const wholeHeader = view.getUint32(headerFields.headerSize, true);
    const part = (offset: number, size: number) => {
      const start = wholeHeader + view.getUint32(offset, true);
      return bytes.subarray(start, start + view.getUint32(size, true));
    };
    this.#types = part(headerFields.typeOffset, headerFields.typeSize);
    const own = part(headerFields.stringOffset, headerFields.stringSize);
    this.#strings = [own];
    this.#size = own.length;
  }

  /** Returns the offset of a text, which is added where it is not there yet; it ends at the first NUL, and has one line. */
  offsetOf(text: string): number {
    const wanted = (text.split("\0", 1)[0] ?? "").replaceAll("\n", " ");
    let offset = this.#offsets.get(wanted);
    if (offset === undefined) {
      offset = this.#size;
      this.#offsets.set(wanted, offset);
      const added = Buffer.from(`${wanted}\0`);
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
