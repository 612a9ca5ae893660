/**
 * @module What a BPF program is before the kernel sees it: plain data, the same on every machine.
 *
 * The functions of `asm` make it, an object file or a compiler may make it as well, and
 * `assemble()` turns it into bytes. A reference stays a name until then, so a program can be built,
 * printed and tested where there is no BPF at all.
 */

import type { Keyword } from "../check/names.ts";
import type { bpfCoreRelocations } from "../uapi/enumerations.ts";

/** The number of a register: 0 to 10. */
export type RegisterNumber = 0 | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9 | 10;

/**
 * A register, as an operand. An object rather than a number, so that `add(r1, r2)` and `add(r1, 2)`
 * differ for the type checker and at run time.
 */
export interface Register<Index extends RegisterNumber = RegisterNumber> {
  readonly register: Index;
}

/** A register that an instruction may write: every one but `r10`, the frame pointer. */
export type WritableRegister = Register<Exclude<RegisterNumber, 10>>;

/** A map that exists already: all that an instruction needs of it is its file descriptor. */
export interface LiveMap {
  readonly fd: number;
  /** The counter of a ring buffer's lost events, a per-CPU array of one 64-bit number. Asking may make it. */
  readonly lost?: LiveMap;
}

/** The map that an instruction refers to: by the name that the program's `maps` give it, or live. */
export type MapReference = string | LiveMap;

/** The thing that an instruction refers to, until `assemble()` writes the number into it. */
export type Reference =
  /** The target of a jump: a label of the same function. */
  | { readonly kind: "label"; readonly name: string }
  /** The address of a map. */
  | { readonly kind: "map"; readonly map: MapReference }
  /** The address of a byte in the value of a map that has one entry, such as `.data` of an object. */
  | { readonly kind: "mapValue"; readonly map: MapReference; readonly offset: number }
  /** A function of the program: called, or its address taken for a callback. */
  | { readonly kind: "function"; readonly name: string }
  /** A variable of the kernel or of one of its modules, by BTF. */
  | { readonly kind: "kernelSymbol"; readonly name: string }
  /** A function of the kernel or of one of its modules, by BTF. */
  | { readonly kind: "kernelFunction"; readonly name: string };

/** Where an instruction came from, for errors, verifier logs and line information. */
export interface SourcePosition {
  readonly file: string;
  /** Counted from 1. */
  readonly line: number;
  /** Counted from 1. */
  readonly column?: number;
  /** The text of the line, of which the kernel gets 255 characters. */
  readonly text?: string;
}

/** A relocation of CO-RE: a number of an instruction that depends on the running kernel's types. */
export interface CoreRelocation {
  /** The number that is meant, as the kernel's `BPF_CORE_FIELD_BYTE_OFFSET` names it: `"field_byte_offset"`. */
  readonly kind: Keyword<keyof typeof bpfCoreRelocations>;
  /** The type in the program's own BTF that it begins at. */
  readonly typeId: number;
  /** The path from there, as compilers write it: `"0:1:3"`. */
  readonly access: string;
}

/** One instruction: the fields of the kernel's `struct bpf_insn`, and what they stand for. */
export interface Instruction {
  readonly opcode: number;
  readonly dst: number;
  readonly src: number;
  readonly offset: number;
  /**
   * A signed 32-bit number; a bigint of 64 unsigned bits exactly if the instruction takes two slots,
   * which `lddw` alone does.
   */
  readonly imm: number | bigint;
  /** Names this place, as `label()` in front of the instruction does. */
  readonly label?: string;
  readonly reference?: Reference;
  readonly source?: SourcePosition;
  /** The kernel resolves it when it loads the program (Linux 5.17). */
  readonly relocation?: CoreRelocation;
}

/**
 * Names the place of the next instruction. An item of its own, because several labels may share a
 * place and a snippet may end in one.
 */
export interface Label {
  readonly label: string;
}

/** The next instruction is the first of a function. Labels belong to the function they are in. */
export interface FunctionStart {
  readonly function: string;
}

/** One item of a program. */
export type CodeItem = Instruction | Label | FunctionStart;

/**
 * The code of a program. Arrays nest to any depth, so that a snippet is a function that returns an
 * array.
 */
export type Code = readonly (CodeItem | Code)[];

/** Returns true for an item of a program that is an instruction, rather than a mark between instructions. */
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

/** The result of a function or the program; calls overwrite it. */
export const r0: Register<0> = register(0);
/** The first argument; at the start of a program its context. Calls destroy it. */
export const r1: Register<1> = register(1);
/** The second argument. Calls destroy it. */
export const r2: Register<2> = register(2);
/** The third argument. Calls destroy it. */
export const r3: Register<3> = register(3);
/** The fourth argument. Calls destroy it. */
export const r4: Register<4> = register(4);
/** The fifth argument. Calls destroy it. */
export const r5: Register<5> = register(5);
/** Survives calls. The legacy packet loads expect the context here. */
export const r6: Register<6> = register(6);
/** Survives calls. */
export const r7: Register<7> = register(7);
/** Survives calls. */
export const r8: Register<8> = register(8);
/** Survives calls. */
export const r9: Register<9> = register(9);
/** The frame pointer: the end of the 512 bytes of stack. Cannot be written. */
export const r10: Register<10> = register(10);
/** The frame pointer, by its other name. */
export const fp: Register<10> = r10;
