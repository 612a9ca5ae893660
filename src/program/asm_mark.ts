/** @module What stands between instructions or is said about them: labels, functions, source positions. */

import { describe } from "../types/refusal.ts";
import {
  isInstruction,
  type Code,
  type CodeItem,
  type FunctionStart,
  type Instruction,
  type Label,
  type SourcePosition,
} from "./instruction.ts";
import { nameOf } from "./operand.ts";

/**
 * Names the place of the next instruction, for jumps in the same function. Several labels may share
 * a place.
 *
 * @throws {TypeError} when `name` is not a name
 * @example
 * ```ts
 * import { asm } from "bun-bpf";
 * const { r0, mov, sub, jne, label, exit } = asm;
 *
 * const code = [mov(r0, 10), label("again"), sub(r0, 1), jne(r0, 0, "again"), exit()];
 * ```
 */
export function label(name: string): Label {
  return { label: nameOf("label", "name", name) };
}

/**
 * Starts a function at the next instruction: for `callFunction()` and `ldFunc()`. The first function
 * is the program itself and needs no `func()`.
 *
 * @throws {TypeError} when `name` is not a name
 * @example
 * ```ts
 * import { asm } from "bun-bpf";
 * const { r0, mov, callFunction, exit, func } = asm;
 *
 * const code = [callFunction("zero"), exit(), func("zero"), mov(r0, 0), exit()];
 * ```
 */
export function func(name: string): FunctionStart {
  return { function: nameOf("func", "name", name) };
}

/**
 * Says where instructions came from: errors and verifier logs show it. A position that an
 * instruction has already stays, since it is the more exact one.
 *
 * @throws {TypeError} when the position has no file or its line is not counted from 1
 * @example
 * ```ts
 * import { asm } from "bun-bpf";
 * const { r0, mov, exit, withSource } = asm;
 *
 * const code = withSource([mov(r0, 0), exit()], { file: "drop.bpf", line: 3, text: "return 0" });
 * ```
 */
export function withSource(code: Instruction, position: SourcePosition): Instruction;
export function withSource(code: Code, position: SourcePosition): Code;
export function withSource(code: CodeItem | Code, position: SourcePosition): CodeItem | Code {
  checkPosition(position);
  return attach(code, position);
}

function attach(code: CodeItem | Code, position: SourcePosition): CodeItem | Code {
  // The type guard of an array does not know read-only ones.
  if (Array.isArray(code)) return (code as Code).map((item) => attach(item, position));
  const item = code as CodeItem;
  return isInstruction(item) ? { source: position, ...item } : item;
}

function checkPosition(position: SourcePosition): void {
  if (typeof position?.file !== "string") {
    throw new TypeError(
      `withSource: position: expected an object with a file and a line, got ${describe(position)}`,
    );
  }
  for (const [name, value] of [
    ["line", position.line],
    ["column", position.column ?? 1],
  ] as const) {
    if (Number.isInteger(value) && value >= 1) continue;
    throw new TypeError(
      `withSource: position.${name}: expected an integer from 1, got ${describe(value)}`,
    );
  }
}
