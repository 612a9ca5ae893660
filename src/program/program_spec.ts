import type { Code } from "../asm/instruction.ts";
import type { ProgramFlag } from "../ffi/bpf_prog.ts";
import type { SectionName } from "./section_types.ts";

/**
 * A program as plain data, which can be made, printed, compared, edited and cloned without a kernel.
 *
 * Its code refers to maps, and to the kernel's variables and functions, by name. Instructions can have source positions, which
 * are loaded as line information, and CO-RE relocations.
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
export interface ProgramSpec<S extends SectionName = SectionName> {
  /** The section by libbpf's name, with or without a target: `"tp_btf/sched_process_exec"`, `"socket"`. */
  readonly section: S;
  /**
   * The instructions, usually made with `asm`. Nested arrays are flattened. Code for {@link BpfObject.load} refers to maps by
   * name; `new Program` also accepts code that refers to open maps.
   */
  readonly code: Code;
  /** The program's license. The kernel lets only programs with a GPL-compatible license, such as `"GPL"`, call many helpers. */
  readonly license: string;
  /** The name in the kernel, as tools list it: at most 15 characters of `A-Z a-z 0-9 _ .`. @default "" */
  readonly name?: string;
  /** Flags for loading, in addition to those of the section. @default none */
  readonly flags?: readonly ProgramFlag[];
  /** The types of the program's functions. @default types that are generated if the verifier requires some */
  readonly btf?: ProgramBtfSpec;
}

/** Names of the properties of {@link ProgramSpec}, to find misspelt ones. */
export const programSpecNames = ["section", "code", "license", "name", "flags", "btf"] as const;

/** The types of a program, as compilers write them. */
export interface ProgramBtfSpec {
  /** Raw BTF, as in the section `.BTF` of an object file. */
  readonly bytes: Uint8Array;
  /** Type ids by function name: of each called function, and of the main function, whose name is `""` if it has no label. */
  readonly functions: Readonly<Record<string, number>>;
}
