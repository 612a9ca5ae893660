import type { Code } from "../asm/instruction.ts";

/**
 * A program as plain data, the same on every machine: it can be printed, compared, edited and cloned, and needs no kernel.
 *
 * Its code refers to maps, variables and functions of the kernel by name. Instructions carry their source positions, which
 * reach the kernel as line information, and their relocations.
 *
 * @example
 * ```ts
 * import { asm, Program, type ProgramSpec } from "bun-bpf";
 * const spec: ProgramSpec = {
 *   section: "socket",
 *   license: "GPL",
 *   code: [asm.withSource(asm.mov(asm.r0, 7), { file: "seven.ts", line: 1 }), asm.exit()],
 * };
 * using program = new Program(structuredClone(spec));
 * console.log(program.testRun({ data: new Uint8Array(14) }).returnValue); // 7
 * ```
 */
export interface ProgramSpec {
  /** The section, by libbpf's name: the kind of program and its target, as in `"tp_btf/sched_process_exec"` or `"socket"`. */
  readonly section: string;
  /**
   * The instructions, from `asm` or elsewhere. Nested arrays are flattened. Code of a spec refers to maps by name; only
   * `new Program` takes code that refers to open maps.
   */
  readonly code: Code;
  /** The program's license: many helpers are for `"GPL"` and compatible ones only. */
  readonly license: string;
  /** Shown by `bpftool prog`: at most 15 characters of `A-Z a-z 0-9 _ .`. @default "" */
  readonly name?: string;
  /** The program's own types. @default those that the verifier requires, generated */
  readonly btf?: ProgramBtfSpec;
}

/** The names of the properties of {@link ProgramSpec}, for checks of misspelt ones. */
export const programSpecNames = ["section", "code", "license", "name", "btf"] as const;

/** The types of a program, in the form that compilers write. */
export interface ProgramBtfSpec {
  /** BTF in its raw form, as in the section `.BTF` of an object file. */
  readonly bytes: Uint8Array;
  /** Type ids of functions, by name: of each function that is called, and of the program itself (`""` where it has no name). */
  readonly functions: Readonly<Record<string, number>>;
}
