/** @module The instructions that put 64 bits into a register: a number, or an address by reference. */

import { LDDW, lddwKind } from "./encode.ts";
import type { Instruction, MapReference, Reference, WritableRegister } from "./instruction.ts";
import {
  build,
  immediate,
  INT64_MIN,
  nameOf,
  UINT32_MAX,
  UINT64_MAX,
  writable,
} from "./operand.ts";
import { describe } from "../check/describe.ts";

/**
 * `dst = value`, all 64 bits. Takes two slots.
 *
 * @throws {TypeError} if `dst` is not a register, or `value` neither a bigint nor a number
 * @throws {RangeError} if `dst` is the frame pointer, or `value` is not an integer from -2^63 to
 *   2^64-1; a number must also be a safe integer
 * @example
 * ```ts
 * import { asm } from "bun-bpf";
 *
 * const code = [asm.lddw(asm.r0, 0xffff_ffff), asm.exit()];
 * ```
 */
export function lddw(dst: WritableRegister, value: bigint | number): Instruction {
  const to = writable("lddw", "dst", dst);
  if (typeof value !== "bigint" && typeof value !== "number") {
    throw new TypeError(`lddw: value: expected a bigint or a number, got ${describe(value)}`);
  }
  if (typeof value === "number" && !Number.isSafeInteger(value)) {
    throw new RangeError(
      `lddw: value: expected an integer from -(2^53-1) to 2^53-1, got ${value}: write what is larger as a bigint`,
    );
  }
  const wide = BigInt(value);
  if (wide < INT64_MIN || wide > UINT64_MAX) {
    throw new RangeError(
      `lddw: value: expected an integer from ${INT64_MIN} to ${UINT64_MAX}, got ${wide}`,
    );
  }
  return build(LDDW, { dst: to, src: lddwKind.number, imm: BigInt.asUintN(64, wide) });
}

function address(
  mnemonic: string,
  dst: WritableRegister,
  kind: number,
  reference: Reference,
): Instruction {
  return build(LDDW, { dst: writable(mnemonic, "dst", dst), src: kind, imm: 0n, reference });
}

function mapOf(mnemonic: string, map: unknown): MapReference {
  if (typeof map === "string" && map !== "") return map;
  // The descriptor is read when the program is assembled, not here: the map may not be open yet.
  if (typeof map === "object" && map !== null && "fd" in map) return map as MapReference;
  throw new TypeError(
    `${mnemonic}: map: expected the name of a map or an open map, got ${describe(map)}`,
  );
}

/**
 * `dst = &map`: the argument that helpers such as `map_lookup_elem` take. The map is one of the
 * program's `maps` by name, or an open map. Takes two slots.
 *
 * @throws {TypeError} if `dst` is not a register, or `map` neither a name nor an open map
 * @throws {RangeError} if `dst` is the frame pointer
 * @example
 * ```ts
 * import { asm } from "bun-bpf";
 * const { r1, r2, r10, ldMap, mov, add, stw, call } = asm;
 *
 * // r0 = counts[0]
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
  return address("ldMap", dst, lddwKind.mapFd, { kind: "map", map: mapOf("ldMap", map) });
}

/**
 * `dst = &map[0] + offset`: memory in the value of an array map of one entry, read and written with
 * no call. Takes two slots. Linux 5.2.
 *
 * @throws {TypeError} if `dst` is not a register, or `map` neither a name nor an open map
 * @throws {RangeError} if `dst` is the frame pointer, or `offset` is not 0 to 2^32-1
 * @example
 * ```ts
 * import { asm } from "bun-bpf";
 * const { r1, r2, ldMapValue, mov, atomicAdd } = asm;
 *
 * const count = [ldMapValue(r1, "counters", 8), mov(r2, 1), atomicAdd(r1, 0, r2)];
 * ```
 */
export function ldMapValue(dst: WritableRegister, map: MapReference, offset: number): Instruction {
  immediate("ldMapValue", "offset", offset, { min: 0, max: UINT32_MAX });
  const reference = { kind: "mapValue", map: mapOf("ldMapValue", map), offset } as const;
  return address("ldMapValue", dst, lddwKind.mapValue, reference);
}

/**
 * `dst = &function`: the callback that helpers such as `for_each_map_elem` and `loop` take. The
 * function is one that `func()` starts. Takes two slots. Linux 5.13; the verifier wants the program
 * loaded with BTF that describes its functions.
 *
 * @throws {TypeError} if `dst` is not a register, or `name` not a name
 * @throws {RangeError} if `dst` is the frame pointer
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
 */
export function ldFunc(dst: WritableRegister, name: string): Instruction {
  const reference = { kind: "function", name: nameOf("ldFunc", "name", name) } as const;
  return address("ldFunc", dst, lddwKind.function, reference);
}

/**
 * `dst = &symbol`: the address of a variable of the kernel that its BTF describes, such as
 * `bpf_prog_active`; for a per-CPU one, what `per_cpu_ptr` takes. Takes two slots. Linux 5.10.
 *
 * @throws {TypeError} if `dst` is not a register, or `name` not a name
 * @throws {RangeError} if `dst` is the frame pointer
 * @example
 * ```ts
 * import { asm } from "bun-bpf";
 *
 * const code = [asm.ldKernelSymbol(asm.r1, "runqueues"), asm.call("this_cpu_ptr")];
 * ```
 */
export function ldKernelSymbol(dst: WritableRegister, name: string): Instruction {
  const reference = { kind: "kernelSymbol", name: nameOf("ldKernelSymbol", "name", name) } as const;
  return address("ldKernelSymbol", dst, lddwKind.kernelSymbol, reference);
}
