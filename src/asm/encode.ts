/** @module Encoding and decoding of instructions as bytes, and the fields of opcodes. */

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

// The class has three bits. BPF_ALU64 is the largest class, with all bits set.
const CLASS_MASK = BPF_ALU64;
// The bits above class and source (arithmetic and jumps), and above class and size (loads and stores).
const OPERATION_MASK = 0xf0;
const MODE_MASK = 0xe0;

/** Returns the instruction class of an opcode, like the kernel's BPF_CLASS(). */
export function classOf(opcode: number): number {
  return opcode & CLASS_MASK;
}

/** Returns the arithmetic operation or the jump condition of an opcode, like the kernel's BPF_OP(). */
export function operationOf(opcode: number): number {
  return opcode & OPERATION_MASK;
}

/** Returns the source of an opcode, like the kernel's BPF_SRC(): BPF_X for a register, BPF_K for an immediate. */
export function sourceOf(opcode: number): number {
  return opcode & BPF_X;
}

/** Returns the addressing mode of a load or store, like the kernel's BPF_MODE(). */
export function modeOf(opcode: number): number {
  return opcode & MODE_MASK;
}

/** Returns the size of a load or store, like the kernel's BPF_SIZE(): BPF_B, BPF_H, BPF_W or BPF_DW. */
export function sizeOf(opcode: number): number {
  return opcode & BPF_DW;
}

/** Opcode of the load of a 64-bit immediate, the only instruction of two slots. */
export const LDDW = BPF_LD | BPF_IMM | BPF_DW;

/** Opcode of the jump with a 32-bit distance, which is in its immediate. */
export const GOTOL = BPF_JMP32 | BPF_JA;

/** Opcode of calls: of a helper, of a function of the program, or of a kfunc. */
export const CALL = BPF_JMP | BPF_CALL;

/** Returns true for the opcode of a jump to a target in the same function. */
export function isJump(opcode: number): boolean {
  if (classOf(opcode) !== BPF_JMP && classOf(opcode) !== BPF_JMP32) return false;
  const operation = operationOf(opcode);
  return operation !== BPF_CALL && operation !== BPF_EXIT;
}

/** Source register of an `lddw` for each meaning of its immediate. */
export const lddwKind = {
  number: 0,
  mapFd: BPF_PSEUDO_MAP_FD,
  mapValue: BPF_PSEUDO_MAP_VALUE,
  kernelSymbol: BPF_PSEUDO_BTF_ID,
  function: BPF_PSEUDO_FUNC,
  mapIndex: BPF_PSEUDO_MAP_IDX,
  mapIndexValue: BPF_PSEUDO_MAP_IDX_VALUE,
} as const;

/** Name of a kfunc that does not return: the verifier lets a function end with it. */
const THROW = "bpf_throw";

/** Returns true for an instruction that a function may end with, because execution never continues after it. */
export function isEnd({ opcode, reference }: Instruction): boolean {
  if (reference?.kind === "kernelFunction") return reference.name === THROW;
  return (
    opcode === (BPF_JMP | BPF_EXIT) ||
    opcode === (BPF_JMP | BPF_JA) ||
    opcode === (BPF_JMP | BPF_JA | BPF_X) ||
    opcode === GOTOL
  );
}

/** Size of a slot in bytes. */
export const SLOT_SIZE = 8;

const REGISTER_BITS = 4;
const REGISTER_MASK = 0xf;

// Bun runs on little-endian machines only. There the destination register is in the low half of its byte.
const LITTLE_ENDIAN = true;

function checkFields({ opcode, dst, src, offset, imm }: Instruction, index: number): void {
  const check = (field: string, value: unknown, min: number | bigint, max: number | bigint) => {
    const isInteger = typeof value === "bigint" || Number.isInteger(value);
    if (isInteger && Number(value) >= min && (value as number | bigint) <= max) return;
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
  // The other fields of the second slot are reserved and stay 0.
  view.setUint32(at + 4, Number(BigInt.asUintN(32, imm)), LITTLE_ENDIAN);
  view.setUint32(at + 12, Number(BigInt.asUintN(32, imm >> 32n)), LITTLE_ENDIAN);
}

/**
 * Encodes the fields of instructions as bytes, 8 for each slot. References are ignored: {@link assemble}
 * resolves them.
 *
 * @throws {RangeError} if a field is out of range.
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
 * Decodes bytes to instructions, for example those of an object file or of a loaded program. For all bytes,
 * `encode()` of the result returns the same bytes. An `lddw` without its second slot is decoded as an
 * instruction of one slot, whose `imm` is a number.
 *
 * @throws {RangeError} if the length is not a multiple of 8.
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

/** Returns true for an lddw that is followed by its second slot, where only the immediate can be nonzero. */
function isWide(view: DataView, at: number): boolean {
  return (
    view.getUint8(at) === LDDW &&
    at + 2 * SLOT_SIZE <= view.byteLength &&
    view.getUint32(at + SLOT_SIZE, LITTLE_ENDIAN) === 0
  );
}

/** Formats the bytes of an instruction in hexadecimal. Fields that are out of range are truncated. */
export function hexadecimal(instruction: Instruction): string {
  const bytes = new Uint8Array(slotsOf(instruction) * SLOT_SIZE);
  write(new DataView(bytes.buffer), 0, instruction);
  return hexBytes(bytes);
}

/** Formats bytes in hexadecimal, separated by spaces. */
export function hexBytes(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join(" ");
}
