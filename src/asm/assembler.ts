/** @module Assembling of a program's code to the bytes that the kernel loads, and resolution of its references. */

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

/** Name and start of a function in an assembled program. */
export interface FunctionPlace {
  /** Name of the function; empty for a program that starts without `func()`. */
  readonly name: string;
  /** Index of the function's first slot. */
  readonly slot: number;
}

/** Source position of the instructions from a slot on. */
export interface SourceLine {
  /** Index of the first slot with this position. */
  readonly slot: number;
  /** Source position. */
  readonly source: SourcePosition;
}

/** An assembled program, as returned by {@link assemble}. */
export interface Assembled {
  /** Encoded instructions, 8 bytes for each slot. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** Number of slots. */
  readonly slots: number;
  /** Instructions in order. */
  readonly instructions: readonly PlacedInstruction[];
  /** Instruction at each slot. The verifier's log counts slots. Both slots of an `lddw` have the same instruction. */
  readonly bySlot: readonly PlacedInstruction[];
  /** Functions in order. The first is the program itself. */
  readonly functions: readonly FunctionPlace[];
  /** Source positions in ascending order of slots, one for each change of position. */
  readonly sourceLines: readonly SourceLine[];
}

/**
 * Assembles a program: flattens its code, assigns slots, replaces references to labels, functions, maps and
 * symbols with numbers, and encodes the instructions. It makes no system calls, unless the resolver does.
 *
 * @param code - instructions, labels and function starts, in arrays of any depth
 * @param resolver - functions that find the maps and kernel symbols that the program refers to by name
 * @throws {AssemblerError} if the program is empty or does not end with an exit or a jump, a label or
 *   function is missing or defined twice, a jump is too long, or a reference cannot be resolved.
 * @throws {TypeError} if an item of the code is not an instruction, label or function start.
 * @throws {RangeError} if a field of an instruction is out of range.
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
    sourceLines: listSourceLines(instructions),
  };
}

function listSourceLines(instructions: readonly PlacedInstruction[]): SourceLine[] {
  const lines: SourceLine[] = [];
  for (const { instruction, slot } of instructions) {
    const { source } = instruction;
    if (source === undefined || isSamePosition(source, lines.at(-1)?.source)) continue;
    lines.push({ slot, source });
  }
  return lines;
}

function isSamePosition(a: SourcePosition, b: SourcePosition | undefined): boolean {
  return a.file === b?.file && a.line === b.line && a.column === b.column;
}

/** BTF id of a variable or function of the kernel, returned by a {@link Resolver}. */
export interface KernelReference {
  /** Id in the BTF of the kernel or the module. */
  readonly id: number;
  /**
   * Module that defines the variable or function: for a variable the file descriptor of the module's BTF, for a function the
   * index of that descriptor in the program's `fd_array`. 0 is the kernel itself.
   *
   * @default 0
   */
  readonly module?: number;
}

/** Functions that resolve the names in a program, for {@link assemble}. */
export interface Resolver {
  /**
   * Returns the file descriptor of a map. Without this function, an open map resolves to its own descriptor, and a name is an
   * error.
   */
  readonly map?: (map: MapReference) => number;
  /** Returns the BTF id of a variable of the kernel, for `ldKernelSymbol()`. */
  readonly kernelSymbol?: (name: string) => KernelReference;
  /** Returns the BTF id of a function of the kernel, for `callKernelFunction()`. */
  readonly kernelFunction?: (name: string) => KernelReference;
}

/** Data for the resolution of references: the program's functions, and the caller's resolver. */
interface Context {
  readonly functions: ReadonlyMap<string, FunctionLayout>;
  readonly resolver: Resolver;
}

/** Returns an instruction with its reference replaced by numbers. @throws {AssemblerError} if it cannot be resolved. */
function resolve(placed: PlacedInstruction, context: Context): Instruction {
  const { instruction } = placed;
  const { reference } = instruction;
  if (reference === undefined) return instruction;
  if (!canRefer(reference, instruction.opcode)) {
    throw new AssemblerError(`this instruction cannot refer to a ${reference.kind}`, placed);
  }
  return { ...instruction, ...resolveReference(placed, reference, context) };
}

function canRefer({ kind }: Reference, opcode: number): boolean {
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

function resolveReference(
  placed: PlacedInstruction,
  reference: Reference,
  context: Context,
): Partial<Instruction> {
  switch (reference.kind) {
    case "label":
      return resolveJump(placed, reference.name, context);
    case "function":
      return functionDistance(placed, reference.name, context);
    case "map":
      return { imm: joinImmediates(resolveMap(placed, reference.map, context), 0) };
    case "mapValue":
      return { imm: joinImmediates(resolveMap(placed, reference.map, context), reference.offset) };
    case "kernelSymbol": {
      const { id, module = 0 } = resolveKernel(placed, reference, context);
      return { imm: joinImmediates(id, module) };
    }
    case "kernelFunction": {
      const { id, module = 0 } = resolveKernel(placed, reference, context);
      return { imm: id, offset: module };
    }
  }
}

/** Joins the two 32-bit immediates of an lddw. */
function joinImmediates(low: number, high: number): bigint {
  return BigInt.asUintN(32, BigInt(low)) | (BigInt.asUintN(32, BigInt(high)) << 32n);
}

function resolveJump(
  placed: PlacedInstruction,
  name: string,
  context: Context,
): Partial<Instruction> {
  const target = findLabel(placed, name, context);
  const distance = target.slot - placed.slot - 1;
  if (placed.instruction.opcode === GOTOL) return { imm: distance };
  if (distance >= INT16_MIN && distance <= INT16_MAX) return { offset: distance };
  throw new AssemblerError(
    `label ${JSON.stringify(name)} is ${distance} slots away, but a jump reaches only from ${INT16_MIN} to ${INT16_MAX}: use gotol (Linux 6.6); for a conditional jump, invert the condition to skip the gotol`,
    placed,
  );
}

function findLabel(placed: PlacedInstruction, name: string, context: Context): PlacedInstruction {
  const labels = context.functions.get(placed.function)?.labels ?? new Map();
  const target: PlacedInstruction | undefined = labels.get(name);
  if (target !== undefined) return target;
  const quoted = JSON.stringify(name);
  if (labels.has(name)) {
    const message = `label ${quoted} has no instruction after it: move it before an instruction`;
    throw new AssemblerError(message, placed);
  }
  const elsewhere = [...context.functions.values()].find((other) => other.labels.has(name));
  const hint =
    elsewhere === undefined
      ? hintFor(name, [...labels.keys()], "there are no labels")
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
    const hint = hintFor(name, known, "start it with func()");
    throw new AssemblerError(`there is no function ${JSON.stringify(name)}: ${hint}`, placed);
  }
  const distance = target.slot - placed.slot - 1;
  return { imm: placed.instruction.opcode === LDDW ? joinImmediates(distance, 0) : distance };
}

function hintFor(name: string, known: readonly string[], none: string): string {
  return known.length === 0 ? none : suggest(name, known);
}

function resolveMap(placed: PlacedInstruction, map: MapReference, { resolver }: Context): number {
  const fd = resolver.map === undefined ? fdOfOpenMap(placed, map) : resolver.map(map);
  return checkNumber(placed, "the file descriptor of the map", fd, 0);
}

function fdOfOpenMap(placed: PlacedInstruction, map: MapReference): number {
  if (typeof map !== "string") return map.fd;
  const message = `map ${JSON.stringify(map)} is only a name: pass a resolver with map(), or refer to an open map`;
  throw new AssemblerError(message, placed);
}

function resolveKernel(
  placed: PlacedInstruction,
  { kind, name }: { readonly kind: "kernelSymbol" | "kernelFunction"; readonly name: string },
  { resolver }: Context,
): KernelReference {
  const find = resolver[kind];
  if (find === undefined) {
    const what = kind === "kernelSymbol" ? "symbol" : "function";
    throw new AssemblerError(
      `kernel ${what} ${JSON.stringify(name)}: pass a resolver with ${kind}(), which returns its BTF id`,
      placed,
    );
  }
  const { id, module = 0 } = find(name);
  checkNumber(placed, "a BTF id", id, 1);
  // In a call the module is in the offset, which has 16 bits.
  checkNumber(placed, "the module", module, 0, kind === "kernelFunction" ? INT16_MAX : INT32_MAX);
  return { id, module };
}

function checkNumber(
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
