/** @module From instructions to the bytes that the kernel loads: references become the numbers that they stand for. */

import { describe } from "../check/describe.ts";
import { suggest } from "../check/names.ts";
import { CALL, encode, GOTOL, isJump, LDDW, SLOT_SIZE } from "./encode.ts";
import {
  type Code,
  type Instruction,
  type MapReference,
  type Reference,
  slotsOf,
  type SourcePosition,
} from "./instruction.ts";
import { AssemblerError, type FunctionLayout, layOut, type PlacedInstruction } from "./layout.ts";
import { INT16_MAX, INT16_MIN, INT32_MAX } from "./operand.ts";

/** The start of a function. */
export interface FunctionPlace {
  /** `""` for a program that starts without `func()`. */
  readonly name: string;
  /** Its first slot. */
  readonly slot: number;
}

/** A slot from which on a source position holds. */
export interface SourceLine {
  readonly slot: number;
  readonly source: SourcePosition;
}

/** A program that is ready to load. */
export interface Assembled {
  /** 8 bytes a slot. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly slots: number;
  /** The instructions in order. */
  readonly instructions: readonly PlacedInstruction[];
  /**
   * The instruction at each slot: what a number in the verifier's log stands for. Both slots of an
   * `lddw` have it.
   */
  readonly bySlot: readonly PlacedInstruction[];
  /** The functions in order; the first is the program itself. */
  readonly functions: readonly FunctionPlace[];
  /** The source positions in order of slots, as the kernel's line information wants them. */
  readonly sourceLines: readonly SourceLine[];
}

/**
 * Makes the bytes of a program: flattens it, gives every instruction its slot, and replaces labels,
 * functions, maps and symbols by numbers. Asks nothing of the kernel; the resolver may.
 *
 * @param code - instructions, labels and function starts, in arrays of any depth
 * @param resolver - what finds the maps and the kernel's symbols that the program names
 * @throws {AssemblerError} if the program is empty or falls off its end, a label or a function is
 *   missing or doubled, a jump is too long, or a reference cannot be resolved
 * @throws {TypeError} if something in the code is not an instruction
 * @throws {RangeError} if a field of an instruction made by hand does not fit its bits
 * @example
 * ```ts
 * import { asm, assemble } from "bun-bpf";
 * const { r0, r1, ldMap, mov, exit } = asm;
 *
 * const code = [ldMap(r1, "counts"), mov(r0, 0), exit()];
 * const { bytes, slots } = assemble(code, { map: (map) => (map === "counts" ? 3 : -1) });
 * slots; // 4
 * ```
 */
export function assemble(code: Code, resolver: Resolver = {}): Assembled {
  const layouts = layOut(code);
  const functions = new Map(layouts.map((layout) => [layout.name, layout]));
  const instructions = layouts.flatMap((layout) => layout.instructions);
  const context = { functions, resolver };
  const bytes = encode(instructions.map((placed) => resolve(placed, context)));
  return {
    bytes,
    slots: bytes.length / SLOT_SIZE,
    instructions,
    bySlot: instructions.flatMap((placed) =>
      Array<PlacedInstruction>(slotsOf(placed.instruction)).fill(placed),
    ),
    functions: layouts.map(({ name, slot }) => ({ name, slot })),
    sourceLines: sourceLines(instructions),
  };
}

function sourceLines(instructions: readonly PlacedInstruction[]): SourceLine[] {
  const lines: SourceLine[] = [];
  for (const { instruction, slot } of instructions) {
    const { source } = instruction;
    if (source === undefined || samePlace(source, lines.at(-1)?.source)) continue;
    lines.push({ slot, source });
  }
  return lines;
}

function samePlace(a: SourcePosition, b: SourcePosition | undefined): boolean {
  return a.file === b?.file && a.line === b.line && a.column === b.column;
}

/** The number by which the kernel knows one of its own symbols or functions. */
export interface KernelReference {
  /** The id in BTF. */
  readonly id: number;
  /**
   * For what lives in a module: a symbol's is the file descriptor of the module's BTF, a function's
   * is its index in the program's `fd_array`.
   *
   * @default 0
   */
  readonly module?: number;
}

/** Turns the names in a program into the kernel's numbers. */
export interface Resolver {
  /** The file descriptor of a map. By default a live map's own; a name needs this function. */
  readonly map?: (map: MapReference) => number;
  /** The BTF id of a variable of the kernel, for `ldKernelSymbol()`. */
  readonly kernelSymbol?: (name: string) => KernelReference;
  /** The BTF id of a function of the kernel, for `callKernelFunction()`. */
  readonly kernelFunction?: (name: string) => KernelReference;
}

/** Everything that a reference can need: the program's own layout, and the caller's resolver. */
export interface Context {
  readonly functions: ReadonlyMap<string, FunctionLayout>;
  readonly resolver: Resolver;
}

/** An instruction with its reference replaced by numbers. */
export function resolve(placed: PlacedInstruction, context: Context): Instruction {
  const { instruction } = placed;
  const { reference } = instruction;
  if (reference === undefined) return instruction;
  if (!fits(reference, instruction.opcode)) {
    throw new AssemblerError(`this instruction cannot refer to a ${reference.kind}`, placed);
  }
  return { ...instruction, ...numbers(placed, reference, context) };
}

function fits({ kind }: Reference, opcode: number): boolean {
  switch (kind) {
    case "label":
      return isJump(opcode);
    case "function":
      return opcode === CALL || opcode === LDDW;
    case "kernelFunction":
      return opcode === CALL;
    default:
      return opcode === LDDW;
  }
}

function numbers(
  placed: PlacedInstruction,
  reference: Reference,
  context: Context,
): Partial<Instruction> {
  switch (reference.kind) {
    case "label":
      return jump(placed, reference.name, context);
    case "function":
      return functionDistance(placed, reference.name, context);
    case "map":
      return { imm: wide(mapFd(placed, reference.map, context), 0) };
    case "mapValue":
      return { imm: wide(mapFd(placed, reference.map, context), reference.offset) };
    case "kernelSymbol": {
      const { id, module = 0 } = kernelNumber(placed, reference, context);
      return { imm: wide(id, module) };
    }
    case "kernelFunction": {
      const { id, module = 0 } = kernelNumber(placed, reference, context);
      return { imm: id, offset: module };
    }
  }
}

/** The two 32-bit immediates of an lddw as one number. */
function wide(low: number, high: number): bigint {
  return BigInt.asUintN(32, BigInt(low)) | (BigInt.asUintN(32, BigInt(high)) << 32n);
}

function jump(placed: PlacedInstruction, name: string, context: Context): Partial<Instruction> {
  const target = labelled(placed, name, context);
  const distance = target.slot - placed.slot - 1;
  if (placed.instruction.opcode === GOTOL) return { imm: distance };
  if (distance >= INT16_MIN && distance <= INT16_MAX) return { offset: distance };
  throw new AssemblerError(
    `label ${JSON.stringify(name)} is ${distance} slots away, and a jump reaches from ${INT16_MIN} to ${INT16_MAX}: use gotol (Linux 6.6), behind the inverse condition if there is one`,
    placed,
  );
}

function labelled(placed: PlacedInstruction, name: string, context: Context): PlacedInstruction {
  const labels = context.functions.get(placed.function)?.labels ?? new Map();
  const target: PlacedInstruction | undefined = labels.get(name);
  if (target !== undefined) return target;
  const quoted = JSON.stringify(name);
  if (labels.has(name)) {
    const message = `label ${quoted} stands behind the last instruction: nothing is there to jump to`;
    throw new AssemblerError(message, placed);
  }
  const elsewhere = [...context.functions.values()].find((other) => other.labels.has(name));
  const hint =
    elsewhere === undefined
      ? knownNames(name, [...labels.keys()], "there are no labels")
      : `function ${JSON.stringify(elsewhere.name)} has one, but a jump cannot leave its function`;
  throw new AssemblerError(`there is no label ${quoted}: ${hint}`, placed);
}

function functionDistance(
  placed: PlacedInstruction,
  name: string,
  context: Context,
): Partial<Instruction> {
  const target = context.functions.get(name);
  if (target === undefined) {
    const known = [...context.functions.keys()].filter((other) => other !== "");
    const hint = knownNames(name, known, "no func() starts one");
    throw new AssemblerError(`there is no function ${JSON.stringify(name)}: ${hint}`, placed);
  }
  const distance = target.slot - placed.slot - 1;
  return { imm: placed.instruction.opcode === LDDW ? wide(distance, 0) : distance };
}

function knownNames(name: string, known: readonly string[], none: string): string {
  return known.length === 0 ? none : suggest(name, known);
}

function mapFd(placed: PlacedInstruction, map: MapReference, { resolver }: Context): number {
  const fd = resolver.map === undefined ? ownFd(placed, map) : resolver.map(map);
  return checked(placed, "the file descriptor of the map", fd, 0);
}

function ownFd(placed: PlacedInstruction, map: MapReference): number {
  if (typeof map !== "string") return map.fd;
  const message = `map ${JSON.stringify(map)} has a name only: give the map that it stands for`;
  throw new AssemblerError(message, placed);
}

function kernelNumber(
  placed: PlacedInstruction,
  { kind, name }: { readonly kind: "kernelSymbol" | "kernelFunction"; readonly name: string },
  { resolver }: Context,
): KernelReference {
  const find = resolver[kind];
  if (find === undefined) {
    const what = kind === "kernelSymbol" ? "symbol" : "function";
    throw new AssemblerError(
      `kernel ${what} ${JSON.stringify(name)}: the resolver has no ${kind}() that finds its BTF id`,
      placed,
    );
  }
  const { id, module = 0 } = find(name);
  checked(placed, "a BTF id", id, 1);
  // A call keeps it in the offset, which has 16 bits.
  checked(
    placed,
    "what names a module",
    module,
    0,
    kind === "kernelFunction" ? INT16_MAX : INT32_MAX,
  );
  return { id, module };
}

function checked(
  placed: PlacedInstruction,
  what: string,
  value: number,
  min: number,
  max = INT32_MAX,
): number {
  if (Number.isInteger(value) && value >= min && value <= max) return value;
  const expected = `expected an integer from ${min} to ${max}`;
  throw new AssemblerError(`${what}: ${expected}, got ${describe(value)}`, placed);
}
