/** @module Instructions for divisions and remainders, with the meaning of the newest kernels on all. */

import type { BinaryOperator, Node } from "../ir/ir.ts";
import type { Target } from "./target.ts";
import {
  BPF_ARSH,
  BPF_DIV,
  BPF_MOD,
  BPF_MOV,
  BPF_NEG,
  BPF_SUB,
  BPF_XOR,
} from "../../uapi/instruction.ts";
import { isNonNegative } from "./width.ts";

/** Adds instructions to a function. */
export interface Selector {
  readonly target: Target;
  newRegister(): number;
  registerOf(node: Node): number;
  into(dst: number, node: Node): void;
  move(dst: number, src: number): void;
  alu(code: number, dst: number, src: number, is32?: boolean, offset?: number): void;
  aluImmediate(code: number, dst: number, imm: number, is32?: boolean, offset?: number): void;
}

/** A division or remainder. */
export interface Division {
  readonly dst: number;
  readonly left: Node;
  readonly right: Node;
  readonly operator: Extract<BinaryOperator, "div" | "mod" | "sdiv" | "smod">;
  readonly is32: boolean;
  /** The divisor, if it is a constant. */
  readonly constant: bigint | undefined;
}

/** Adds the instructions of a division. A division by zero gives 0, the remainder of one the dividend. */
export function divide(selector: Selector, division: Division): void {
  const { dst, left, right, operator, is32 } = division;
  const isSigned = operator === "sdiv" || operator === "smod";
  const isDivision = operator === "div" || operator === "sdiv";
  const code = isDivision ? BPF_DIV : BPF_MOD;
  const constant =
    division.constant === undefined || !is32
      ? division.constant
      : BigInt.asIntN(32, division.constant);
  if (constant === 0n || (isSigned && constant === -1n)) {
    divideByUnit(selector, division, constant);
    return;
  }
  const isUnsigned = !isSigned || (isNonNegative(left, is32) && isNonNegative(right, is32));
  if (!isUnsigned && !selector.target.signedDivision) {
    divideMagnitudes(selector, division, constant);
    return;
  }
  const offset = isUnsigned ? 0 : 1;
  if (constant !== undefined && constant === BigInt.asIntN(32, constant)) {
    selector.into(dst, left);
    selector.aluImmediate(code, dst, Number(constant), is32, offset);
  } else {
    const divisor = selector.registerOf(right);
    selector.into(dst, left);
    selector.alu(code, dst, divisor, is32, offset);
  }
}

/** Divides by the constants that the verifier rejects or machines trap on: 0 and -1. */
function divideByUnit(selector: Selector, division: Division, divisor: bigint): void {
  const { dst, left, operator, is32 } = division;
  const isDivision = operator === "div" || operator === "sdiv";
  if (isDivision === (divisor === 0n)) selector.aluImmediate(BPF_MOV, dst, 0);
  else {
    selector.into(dst, left);
    if (isDivision) selector.aluImmediate(BPF_NEG, dst, 0, is32);
    else if (is32) selector.alu(BPF_MOV, dst, dst, true);
  }
}

/**
 * Divides signed numbers without the instructions for it: divides the magnitudes, then sets the sign. There are no branches, because
 * the verifier follows each path. With s = x >> 63, (x ^ s) - s is the magnitude of x, or changes the sign of x according to s.
 */
function divideMagnitudes(
  selector: Selector,
  division: Division,
  constant: bigint | undefined,
): void {
  const { dst, left, right, operator, is32 } = division;
  const isDivision = operator === "sdiv";
  const signOf = (register: number) => {
    const sign = selector.newRegister();
    selector.move(sign, register);
    selector.aluImmediate(BPF_ARSH, sign, is32 ? 31 : 63, is32);
    return sign;
  };
  const applySign = (register: number, sign: number) => {
    selector.alu(BPF_XOR, register, sign, is32);
    selector.alu(BPF_SUB, register, sign, is32);
  };
  const code = isDivision ? BPF_DIV : BPF_MOD;
  const magnitude = constant !== undefined && constant < 0n ? -constant : constant;
  const isImmediate = magnitude !== undefined && magnitude === BigInt.asIntN(32, magnitude);
  const divisor = isImmediate ? undefined : selector.registerOf(right);
  selector.into(dst, left);
  const dividendSign = signOf(dst);
  applySign(dst, dividendSign);
  if (divisor === undefined) {
    selector.aluImmediate(code, dst, Number(magnitude), is32);
    applySign(dst, dividendSign);
    if (isDivision && (constant as bigint) < 0n) selector.aluImmediate(BPF_NEG, dst, 0, is32);
    return;
  }
  const divisorSign = signOf(divisor);
  const divisorMagnitude = selector.newRegister();
  selector.move(divisorMagnitude, divisor);
  applySign(divisorMagnitude, divisorSign);
  selector.alu(code, dst, divisorMagnitude, is32);
  if (isDivision) selector.alu(BPF_XOR, dividendSign, divisorSign, is32);
  applySign(dst, dividendSign);
}
