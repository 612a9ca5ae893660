/** @module Calls of helpers and functions, and exit. */

import type { Instruction } from "./instruction.ts";
import { makeInstruction, checkImmediate, INT32_MAX, checkName } from "./operand.ts";
import { describe } from "../check/describe.ts";
import { suggestion } from "../check/names.ts";
import { bpfHelpers } from "../uapi/helpers.ts";
import {
  BPF_CALL,
  BPF_EXIT,
  BPF_JMP,
  BPF_PSEUDO_CALL,
  BPF_PSEUDO_KFUNC_CALL,
} from "../uapi/instruction.ts";

/** Name of a helper function, as in bpf-helpers(7) but without the prefix `bpf_`: `"map_lookup_elem"`. */
export type HelperName = Exclude<keyof typeof bpfHelpers, "unspec">;

const helperIds: ReadonlyMap<string, number> = new Map(
  Object.entries(bpfHelpers).filter(([name]) => name !== "unspec"),
);

function unknownHelper(name: string): string {
  const bare = name.startsWith("bpf_") ? name.slice("bpf_".length) : name;
  if (helperIds.has(bare)) return `write it without bpf_: ${JSON.stringify(bare)}`;
  return (
    suggestion(bare, helperIds.keys()) ??
    "bpf-helpers(7) lists them; a kernel function (kfunc) is called with callKernelFunction()"
  );
}

/**
 * Calls a helper function of the kernel: `r0 = helper(r1, r2, r3, r4, r5)`. The call clobbers `r1` to `r5`.
 *
 * @param helper - name without the prefix `bpf_`, or number
 * @throws {TypeError} if no helper has the name.
 * @throws {RangeError} if a number is not an integer from 1 to 2^31-1.
 * @example
 * ```ts
 * import { asm } from "bun-bpf";
 * const { r0, call, rsh, exit } = asm;
 *
 * // The high half of the result is the process id.
 * const code = [call("get_current_pid_tgid"), rsh(r0, 32), exit()];
 * ```
 */
export function call(helper: HelperName | number): Instruction {
  if (typeof helper === "number") {
    const imm = checkImmediate("call", "helper", helper, { min: 1, max: INT32_MAX });
    return makeInstruction(BPF_JMP | BPF_CALL, { imm });
  }
  const id = typeof helper === "string" ? helperIds.get(helper) : undefined;
  if (id !== undefined) return makeInstruction(BPF_JMP | BPF_CALL, { imm: id });
  const hint = typeof helper === "string" ? `: ${unknownHelper(helper)}` : "";
  throw new TypeError(
    `call: helper: expected the name or the number of a helper, got ${describe(helper)}${hint}`,
  );
}

/**
 * Calls a function of the same program, which begins with {@link func}: `r0 = name(r1, r2, r3, r4, r5)`. The
 * call clobbers `r1` to `r5`.
 *
 * @throws {TypeError} if `name` is not a string, or is empty.
 * @example
 * ```ts
 * import { asm } from "bun-bpf";
 * const { r0, r1, mov, add, callFunction, exit, func } = asm;
 *
 * const code = [
 *   func("main"),
 *   mov(r1, 41),
 *   callFunction("increment"),
 *   exit(),
 *   func("increment"),
 *   mov(r0, r1),
 *   add(r0, 1),
 *   exit(),
 * ];
 * ```
 *
 * Requires Linux 4.16.
 */
export function callFunction(name: string): Instruction {
  const reference = { kind: "function", name: checkName("callFunction", "name", name) } as const;
  return makeInstruction(BPF_JMP | BPF_CALL, { src: BPF_PSEUDO_CALL, imm: -1, reference });
}

/**
 * Calls a kfunc, a function that the kernel or a module exposes to programs: `r0 = name(r1, r2, r3, r4, r5)`.
 * The call clobbers `r1` to `r5`.
 *
 * @throws {TypeError} if `name` is not a string, or is empty.
 * @example
 * ```ts
 * import { asm } from "bun-bpf";
 *
 * const code = [asm.callKernelFunction("bpf_rcu_read_lock"), asm.callKernelFunction("bpf_rcu_read_unlock")];
 * ```
 *
 * Requires Linux 5.13 (5.18 on arm64); functions of modules require 5.16.
 */
export function callKernelFunction(name: string): Instruction {
  const checked = checkName("callKernelFunction", "name", name);
  const reference = { kind: "kernelFunction", name: checked } as const;
  return makeInstruction(BPF_JMP | BPF_CALL, { src: BPF_PSEUDO_KFUNC_CALL, imm: -1, reference });
}

/**
 * Returns from a function or ends the program, with the result in `r0`.
 *
 * @example
 * ```ts
 * import { asm } from "bun-bpf";
 *
 * const code = [asm.mov(asm.r0, 0), asm.exit()];
 * ```
 */
export function exit(): Instruction {
  return makeInstruction(BPF_JMP | BPF_EXIT);
}
