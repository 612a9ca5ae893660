/** @module Loads of 64-bit numbers and of addresses, which take two slots. */

import { LDDW, lddwKind } from "./encode.ts";
import type { Instruction, MapReference, Reference, WritableRegister } from "./instruction.ts";
import {
  makeInstruction,
  checkImmediate,
  INT64_MIN,
  checkName,
  UINT32_MAX,
  UINT64_MAX,
  checkWritable,
} from "./operand.ts";
import { describe } from "../check/describe.ts";

/**
 * Loads a 64-bit number: `dst = value`. The instruction takes two slots.
 *
 * @param value - integer from -2^63 to 2^64-1. Integers beyond 2^53-1 must be bigints.
 * @throws {TypeError} if `dst` is not a register, or `value` neither a bigint nor a number.
 * @throws {RangeError} if `dst` is the frame pointer, or `value` is not an integer from -2^63 to
 *   2^64-1; a number must also be a safe integer.
 * @example
 * ```ts
 * import { asm } from "bun-bpf";
 *
 * const code = [asm.lddw(asm.r0, 0xffff_ffff), asm.exit()];
 * ```
 */
export function lddw(dst: WritableRegister, value: bigint | number): Instruction {
  const to = checkWritable("lddw", "dst", dst);
  if (typeof value !== "bigint" && typeof value !== "number") {
    throw new TypeError(`lddw: value: expected a bigint or a number, got ${describe(value)}`);
  }
  if (typeof value === "number" && !Number.isSafeInteger(value)) {
    throw new RangeError(
      `lddw: value: expected an integer from -(2^53-1) to 2^53-1, got ${value}: pass larger integers as bigints`,
    );
  }
  const wide = BigInt(value);
  if (wide < INT64_MIN || wide > UINT64_MAX) {
    throw new RangeError(
      `lddw: value: expected an integer from ${INT64_MIN} to ${UINT64_MAX}, got ${wide}`,
    );
  }
  return makeInstruction(LDDW, { dst: to, src: lddwKind.number, imm: BigInt.asUintN(64, wide) });
}

/** Makes the load of an address, which is resolved when the program is assembled or loaded. */
function loadAddress(
  mnemonic: string,
  dst: WritableRegister,
  kind: number,
  reference: Reference,
): Instruction {
  return makeInstruction(LDDW, {
    dst: checkWritable(mnemonic, "dst", dst),
    src: kind,
    imm: 0n,
    reference,
  });
}

/** Checks the operand of a map. @throws {TypeError} if it is neither a name nor an open map. */
function mapOf(mnemonic: string, map: unknown): MapReference {
  if (typeof map === "string" && map !== "") return map;
  // The file descriptor is read when the program is assembled, because the map may not be open yet.
  if (typeof map === "object" && map !== null && "fd" in map) return map as MapReference;
  throw new TypeError(
    `${mnemonic}: map: expected the name of a map or an open map, got ${describe(map)}`,
  );
}

/**
 * Loads the address of a map: `dst = &map`. Helpers such as `map_lookup_elem` take it as an argument. The
 * instruction takes two slots.
 *
 * @param map - name of one of the program's `maps`, or an open map
 * @throws {TypeError} if `dst` is not a register, or `map` is neither a name nor an open map.
 * @throws {RangeError} if `dst` is the frame pointer.
 * @example
 * ```ts
 * import { asm } from "bun-bpf";
 * const { r1, r2, r10, ldMap, mov, add, stw, call } = asm;
 *
 * // r0 = &counts[0], or 0
 * const lookup = [
 *   stw(r10, -4, 0),
 *   ldMap(r1, "counts"),
 *   mov(r2, r10),
 *   add(r2, -4),
 *   call("map_lookup_elem"),
 * ];
 * ```
 */
export function ldMap(dst: WritableRegister, map: MapReference): Instruction {
  return loadAddress("ldMap", dst, lddwKind.mapFd, { kind: "map", map: mapOf("ldMap", map) });
}

/**
 * Loads the address of a byte in the value of an array map with one entry: `dst = &map[0] + offset`. The
 * program can read and write there without a look-up. The instruction takes two slots.
 *
 * @param map - name of one of the program's `maps`, or an open map
 * @param offset - offset in the value in bytes, from 0 to 2^32-1
 * @throws {TypeError} if `dst` is not a register, `map` is neither a name nor an open map, or `offset` is
 *   not a number.
 * @throws {RangeError} if `dst` is the frame pointer, or `offset` is out of range.
 * @example
 * ```ts
 * import { asm } from "bun-bpf";
 * const { r1, r2, ldMapValue, mov, atomicAdd } = asm;
 *
 * const count = [ldMapValue(r1, "counters", 8), mov(r2, 1), atomicAdd(r1, 0, r2)];
 * ```
 *
 * Requires Linux 5.2.
 */
export function ldMapValue(dst: WritableRegister, map: MapReference, offset: number): Instruction {
  checkImmediate("ldMapValue", "offset", offset, { min: 0, max: UINT32_MAX });
  const reference = { kind: "mapValue", map: mapOf("ldMapValue", map), offset } as const;
  return loadAddress("ldMapValue", dst, lddwKind.mapValue, reference);
}

/**
 * Loads the address of a function of the same program, which begins with {@link func}: `dst = &function`.
 * Helpers such as `for_each_map_elem` and `loop` take it as a callback. The instruction takes two slots. The
 * program must be loaded with BTF that describes its functions.
 *
 * @throws {TypeError} if `dst` is not a register, or `name` is not a string or is empty.
 * @throws {RangeError} if `dst` is the frame pointer.
 * @example
 * ```ts
 * import { asm } from "bun-bpf";
 * const { r0, r1, r2, r3, r4, mov, ldFunc, call, exit, func } = asm;
 *
 * const code = [
 *   func("main"),
 *   mov(r1, 10),
 *   ldFunc(r2, "step"),
 *   mov(r3, 0),
 *   mov(r4, 0),
 *   call("loop"),
 *   exit(),
 *   func("step"),
 *   mov(r0, 0),
 *   exit(),
 * ];
 * ```
 *
 * Requires Linux 5.13.
 */
export function ldFunc(dst: WritableRegister, name: string): Instruction {
  const reference = { kind: "function", name: checkName("ldFunc", "name", name) } as const;
  return loadAddress("ldFunc", dst, lddwKind.function, reference);
}

/**
 * Loads the address of a variable of the kernel that its BTF describes, such as `bpf_prog_active`:
 * `dst = &symbol`. For a per-CPU variable, helpers such as `per_cpu_ptr` and `this_cpu_ptr` take the address.
 * The instruction takes two slots.
 *
 * @throws {TypeError} if `dst` is not a register, or `name` is not a string or is empty.
 * @throws {RangeError} if `dst` is the frame pointer.
 * @example
 * ```ts
 * import { asm } from "bun-bpf";
 *
 * const code = [asm.ldKernelSymbol(asm.r1, "runqueues"), asm.call("this_cpu_ptr")];
 * ```
 *
 * Requires Linux 5.10.
 */
export function ldKernelSymbol(dst: WritableRegister, name: string): Instruction {
  const reference = {
    kind: "kernelSymbol",
    name: checkName("ldKernelSymbol", "name", name),
  } as const;
  return loadAddress("ldKernelSymbol", dst, lddwKind.kernelSymbol, reference);
}
