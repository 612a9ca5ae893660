/**
 * @module Code of BPF programs as plain data, the same on every machine.
 *
 * The code comes from the functions of `asm`, object files or compilers, and `assemble()` turns it into bytes. Before that,
 * references are names, so a program can be built, printed and tested on machines without BPF.
 */

import type { Keyword } from "../check/names.ts";
import type { bpfCoreRelocations } from "../uapi/enumerations.ts";

/** Number of a register, from 0 to 10. */
export type RegisterNumber = 0 | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9 | 10;

/** A register as an operand. It is an object, which distinguishes `add(r1, r2)` from `add(r1, 2)`. */
export interface Register<Index extends RegisterNumber = RegisterNumber> {
  /** Number of the register. */
  readonly register: Index;
}

/** A register that an instruction may change: every register except `r10`, the frame pointer. */
export type WritableRegister = Register<Exclude<RegisterNumber, 10>>;

/** An open map. Instructions need only its file descriptor. */
export interface LiveMap {
  /** File descriptor of the map. */
  readonly fd: number;
  /** Counter of a ring buffer's lost events: a per-CPU array with one 64-bit number. Reading the property may create the map. */
  readonly lost?: LiveMap;
}

/** Reference of an instruction to a map: a name in the program's `maps`, or an open map. */
export type MapReference = string | LiveMap;

/** Object that an instruction refers to. `assemble()` replaces it with a number. */
export type Reference =
  /** Label of the same function, the target of a jump. */
  | { readonly kind: "label"; readonly name: string }
  /** Address of a map. */
  | { readonly kind: "map"; readonly map: MapReference }
  /** Address of a byte in the value of a map with one entry, such as `.data` of an object. */
  | { readonly kind: "mapValue"; readonly map: MapReference; readonly offset: number }
  /** Function of the program, which is called or whose address is a callback. */
  | { readonly kind: "function"; readonly name: string }
  /** Variable of the kernel or of a module, found in BTF. */
  | { readonly kind: "kernelSymbol"; readonly name: string }
  /** Function of the kernel or of a module, found in BTF. */
  | { readonly kind: "kernelFunction"; readonly name: string };

/** Source position of an instruction, for errors, verifier logs and line information. */
export interface SourcePosition {
  /** Name of the source file. */
  readonly file: string;
  /** Line number, from 1. */
  readonly line: number;
  /** Column number, from 1. */
  readonly column?: number;
  /** Text of the line. The kernel receives at most 255 characters. */
  readonly text?: string;
}

/** CO-RE relocation: a number in an instruction that depends on the types of the running kernel. */
export interface CoreRelocation {
  /** Kind of the number. The kernel's `BPF_CORE_FIELD_BYTE_OFFSET` is `"field_byte_offset"`, and so on. */
  readonly kind: Keyword<keyof typeof bpfCoreRelocations>;
  /** Id of the root type in the program's own BTF. */
  readonly typeId: number;
  /** Access string, the path from the root type as compilers encode it: `"0:1:3"`. */
  readonly access: string;
}

/** An instruction: the fields of the kernel's `struct bpf_insn`, and what they refer to. */
export interface Instruction {
  /** Opcode, from 0 to 255. */
  readonly opcode: number;
  /** Number of the destination register. */
  readonly dst: number;
  /** Number of the source register. */
  readonly src: number;
  /** Signed 16-bit offset. */
  readonly offset: number;
  /** Immediate: a signed 32-bit number, or for `lddw`, the only instruction of two slots, an unsigned 64-bit bigint. */
  readonly imm: number | bigint;
  /** Label of the instruction, like `label()` before it. */
  readonly label?: string;
  /** Object that the instruction refers to. */
  readonly reference?: Reference;
  /** Source position of the instruction. */
  readonly source?: SourcePosition;
  /** CO-RE relocation, which the kernel resolves when it loads the program (Linux 5.17). */
  readonly relocation?: CoreRelocation;
}

/** Label of the next instruction. An instruction may have several, and a code snippet may end with one. */
export interface Label {
  /** Name of the label. */
  readonly label: string;
}

/** Start of a function at the next instruction. Labels belong to the function that contains them. */
export interface FunctionStart {
  /** Name of the function. */
  readonly function: string;
}

/** An item of a program's code. */
export type CodeItem = Instruction | Label | FunctionStart;

/** Code of a program. Arrays may be nested to any depth, so that a snippet can be a function that returns an array. */
export type Code = readonly (CodeItem | Code)[];

/** Returns true for an instruction, false for a label or function start. */
export function isInstruction(item: CodeItem): item is Instruction {
  return "opcode" in item;
}

/** Returns the number of 8-byte slots that an instruction takes: two for `lddw`, one for everything else. */
export function slotsOf(instruction: Instruction): 1 | 2 {
  return typeof instruction.imm === "bigint" ? 2 : 1;
}

function register<Index extends RegisterNumber>(index: Index): Register<Index> {
  return Object.freeze({ register: index });
}

/** Register 0: the result of a call, a function or the program. */
export const r0: Register<0> = register(0);
/** Register 1: the first argument of a function; at the start of a program, the context. Calls clobber it. */
export const r1: Register<1> = register(1);
/** Register 2: the second argument of a function. Calls clobber it. */
export const r2: Register<2> = register(2);
/** Register 3: the third argument of a function. Calls clobber it. */
export const r3: Register<3> = register(3);
/** Register 4: the fourth argument of a function. Calls clobber it. */
export const r4: Register<4> = register(4);
/** Register 5: the fifth argument of a function. Calls clobber it. */
export const r5: Register<5> = register(5);
/** Register 6: preserved by calls. Legacy packet loads use it as the context. */
export const r6: Register<6> = register(6);
/** Register 7: preserved by calls. */
export const r7: Register<7> = register(7);
/** Register 8: preserved by calls. */
export const r8: Register<8> = register(8);
/** Register 9: preserved by calls. */
export const r9: Register<9> = register(9);
/** Register 10: the frame pointer, read-only. It points to the end of the stack, whose 512 bytes are below it. */
export const r10: Register<10> = register(10);
/** Frame pointer: another name of {@link r10}. */
export const fp: Register<10> = r10;
