/** @module Taking an opcode apart, as the kernel's macros BPF_CLASS(), BPF_OP() and so on do. */

import { type Instruction, slotsOf } from "./instruction.ts";
import { INT16_MAX, INT16_MIN, INT32_MAX, INT32_MIN, UINT64_MAX } from "./operand.ts";
import { describe } from "../check/describe.ts";
import {
  BPF_ALU64,
  BPF_CALL,
  BPF_DW,
  BPF_EXIT,
  BPF_IMM,
  BPF_JA,
  BPF_JMP,
  BPF_JMP32,
  BPF_LD,
  BPF_PSEUDO_BTF_ID,
  BPF_PSEUDO_FUNC,
  BPF_PSEUDO_MAP_FD,
  BPF_PSEUDO_MAP_IDX,
  BPF_PSEUDO_MAP_IDX_VALUE,
  BPF_PSEUDO_MAP_VALUE,
  BPF_X,
} from "../uapi/instruction.ts";

// The classes fill the low three bits, and the largest has them all set.
const CLASS_MASK = BPF_ALU64;
// What is above class and source, or above class and size.
const OPERATION_MASK = 0xf0;
const MODE_MASK = 0xe0;

/** BPF_CLASS(): which of the eight kinds of instruction it is. */
export function classOf(opcode: number): number {
  return opcode & CLASS_MASK;
}

/** BPF_OP(): which arithmetic operation or which jump. */
export function operationOf(opcode: number): number {
  return opcode & OPERATION_MASK;
}

/** BPF_SRC(): BPF_X for a register, BPF_K for an immediate. */
export function sourceOf(opcode: number): number {
  return opcode & BPF_X;
}

/** BPF_MODE(): how a load or a store finds its memory. */
export function modeOf(opcode: number): number {
  return opcode & MODE_MASK;
}

/** BPF_SIZE(): how much a load or a store moves. */
export function sizeOf(opcode: number): number {
  return opcode & BPF_DW;
}

/** The only instruction of two slots: the load of a 64-bit immediate. */
export const LDDW = BPF_LD | BPF_IMM | BPF_DW;

/** The jump with 32 bits of distance, which it keeps in its immediate. */
export const GOTOL = BPF_JMP32 | BPF_JA;

/** The calls: of a helper, of a function of the program, of a function of the kernel. */
export const CALL = BPF_JMP | BPF_CALL;

/** Returns true for an instruction that has a target in the same function. */
export function isJump(opcode: number): boolean {
  if (classOf(opcode) !== BPF_JMP && classOf(opcode) !== BPF_JMP32) return false;
  const operation = operationOf(opcode);
  return operation !== BPF_CALL && operation !== BPF_EXIT;
}

/** Meanings of the immediate of an `lddw`, by its source register. */
export const lddwKind = {
  number: 0,
  mapFd: BPF_PSEUDO_MAP_FD,
  mapValue: BPF_PSEUDO_MAP_VALUE,
  kernelSymbol: BPF_PSEUDO_BTF_ID,
  function: BPF_PSEUDO_FUNC,
  mapIndex: BPF_PSEUDO_MAP_IDX,
  mapIndexValue: BPF_PSEUDO_MAP_IDX_VALUE,
} as const;

/** `bpf_throw()` does not return: the verifier lets a function end with it. */
const THROW = "bpf_throw";

/** Returns true for an instruction that a function may end with: what follows it is never reached from it. */
export function isEnd({ opcode, reference }: Instruction): boolean {
  if (reference?.kind === "kernelFunction") return reference.name === THROW;
  return (
    opcode === (BPF_JMP | BPF_EXIT) ||
    opcode === (BPF_JMP | BPF_JA) ||
    opcode === (BPF_JMP | BPF_JA | BPF_X) ||
    opcode === GOTOL
  );
}

/** The bytes of a slot. */
export const SLOT_SIZE = 8;

const REGISTER_BITS = 4;
const REGISTER_MASK = 0xf;

// Bun runs on little-endian machines alone, and there the destination is the low half.
const LITTLE_ENDIAN = true;

function checkFields({ opcode, dst, src, offset, imm }: Instruction, index: number): void {
  const check = (field: string, value: unknown, min: number | bigint, max: number | bigint) => {
    const integer = typeof value === "bigint" || Number.isInteger(value);
    if (integer && Number(value) >= min && (value as number | bigint) <= max) return;
    throw new RangeError(
      `instruction ${index}: ${field}: expected an integer from ${min} to ${max}, got ${describe(value)}`,
    );
  };
  check("opcode", opcode, 0, 0xff);
  check("dst", dst, 0, REGISTER_MASK);
  check("src", src, 0, REGISTER_MASK);
  check("offset", offset, INT16_MIN, INT16_MAX);
  if (typeof imm === "bigint") check("imm", imm, 0n, UINT64_MAX);
  else check("imm", imm, INT32_MIN, INT32_MAX);
}

function write(view: DataView, at: number, instruction: Instruction): void {
  const { opcode, dst, src, offset, imm } = instruction;
  view.setUint8(at, opcode);
  view.setUint8(at + 1, (src << REGISTER_BITS) | dst);
  view.setInt16(at + 2, offset, LITTLE_ENDIAN);
  if (typeof imm === "number") {
    view.setInt32(at + 4, imm, LITTLE_ENDIAN);
    return;
  }
  // The rest of the second slot is reserved and stays zero.
  view.setUint32(at + 4, Number(BigInt.asUintN(32, imm)), LITTLE_ENDIAN);
  view.setUint32(at + 12, Number(BigInt.asUintN(32, imm >> 32n)), LITTLE_ENDIAN);
}

/**
 * The bytes of instructions as their fields say, with no regard to their references.
 *
 * @throws {RangeError} if a field does not fit its bits
 * @example
 * ```ts
 * import { asm, encode } from "bun-bpf";
 *
 * encode([asm.mov(asm.r0, 0), asm.exit()]).length; // 16
 * ```
 */
export function encode(instructions: readonly Instruction[]): Uint8Array<ArrayBuffer> {
  const slots = instructions.reduce((sum, instruction) => sum + slotsOf(instruction), 0);
  const bytes = new Uint8Array(slots * SLOT_SIZE);
  const view = new DataView(bytes.buffer);
  let at = 0;
  for (const [index, instruction] of instructions.entries()) {
    checkFields(instruction, index);
    write(view, at, instruction);
    at += slotsOf(instruction) * SLOT_SIZE;
  }
  return bytes;
}

/**
 * The instructions that bytes hold: of an object file, or of a program that the kernel lends out.
 * Whatever the bytes, `encode()` makes the same ones of the result. Half an `lddw` is an instruction
 * of one slot, with a number for its `imm`.
 *
 * @throws {RangeError} if the length is not a multiple of 8
 * @example
 * ```ts
 * import { asm, decode, encode } from "bun-bpf";
 *
 * decode(encode([asm.exit()])); // [{ opcode: 0x95, dst: 0, src: 0, offset: 0, imm: 0 }]
 * ```
 */
export function decode(bytes: Uint8Array): Instruction[] {
  if (bytes.length % SLOT_SIZE !== 0) {
    throw new RangeError(
      `decode: bytes: expected a multiple of ${SLOT_SIZE} bytes, got ${bytes.length}`,
    );
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const instructions: Instruction[] = [];
  for (let at = 0; at < bytes.length; at += SLOT_SIZE) {
    const instruction = read(view, at);
    instructions.push(instruction);
    at += (slotsOf(instruction) - 1) * SLOT_SIZE;
  }
  return instructions;
}

function read(view: DataView, at: number): Instruction {
  const opcode = view.getUint8(at);
  const registers = view.getUint8(at + 1);
  return {
    opcode,
    dst: registers & REGISTER_MASK,
    src: registers >> REGISTER_BITS,
    offset: view.getInt16(at + 2, LITTLE_ENDIAN),
    imm: isWide(view, at)
      ? BigInt(view.getUint32(at + 4, LITTLE_ENDIAN)) |
        (BigInt(view.getUint32(at + 12, LITTLE_ENDIAN)) << 32n)
      : view.getInt32(at + 4, LITTLE_ENDIAN),
  };
}

/** Returns true where an lddw is whole: a second slot follows it and has only an immediate. */
function isWide(view: DataView, at: number): boolean {
  return (
    view.getUint8(at) === LDDW &&
    at + 2 * SLOT_SIZE <= view.byteLength &&
    view.getUint32(at + SLOT_SIZE, LITTLE_ENDIAN) === 0
  );
}

/** The bytes of one instruction in hexadecimal; fields too large are cut rather than refused. */
export function hexadecimal(instruction: Instruction): string {
  const bytes = new Uint8Array(slotsOf(instruction) * SLOT_SIZE);
  write(new DataView(bytes.buffer), 0, instruction);
  return spaced(bytes);
}

/** Bytes in hexadecimal, as people read them. */
export function spaced(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join(" ");
}
