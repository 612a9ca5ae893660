/** @module Formatting of instructions as text, in the notation of the verifier's log. */

import {
  CALL,
  classOf,
  decode,
  GOTOL,
  hexadecimal,
  LDDW,
  lddwKind,
  modeOf,
  operationOf,
  sizeOf,
  SLOT_SIZE,
  sourceOf,
  hexBytes,
} from "./encode.ts";
import {
  type Code,
  type CodeItem,
  type Instruction,
  isInstruction,
  type LiveMap,
  type MapReference,
  slotsOf,
  type SourcePosition,
} from "./instruction.ts";
import { bpfHelpers } from "../uapi/helpers.ts";
import {
  BPF_ABS,
  BPF_ADD,
  BPF_ADDR_PERCPU,
  BPF_ADDR_SPACE_CAST,
  BPF_ALU,
  BPF_ALU64,
  BPF_AND,
  BPF_ARSH,
  BPF_ATOMIC,
  BPF_B,
  BPF_CMPXCHG,
  BPF_DIV,
  BPF_DW,
  BPF_END,
  BPF_EXIT,
  BPF_FETCH,
  BPF_H,
  BPF_IND,
  BPF_JA,
  BPF_JCOND,
  BPF_JEQ,
  BPF_JGE,
  BPF_JGT,
  BPF_JLE,
  BPF_JLT,
  BPF_JMP,
  BPF_JMP32,
  BPF_JNE,
  BPF_JSET,
  BPF_JSGE,
  BPF_JSGT,
  BPF_JSLE,
  BPF_JSLT,
  BPF_LD,
  BPF_LDX,
  BPF_LOAD_ACQ,
  BPF_LSH,
  BPF_MEM,
  BPF_MEMSX,
  BPF_MOD,
  BPF_MOV,
  BPF_MUL,
  BPF_NEG,
  BPF_OR,
  BPF_PSEUDO_CALL,
  BPF_PSEUDO_KFUNC_CALL,
  BPF_RSH,
  BPF_ST,
  BPF_STORE_REL,
  BPF_STX,
  BPF_SUB,
  BPF_TO_BE,
  BPF_W,
  BPF_X,
  BPF_XCHG,
  BPF_XOR,
} from "../uapi/instruction.ts";

const symbols: Readonly<Record<number, string>> = {
  [BPF_JEQ]: "==",
  [BPF_JGT]: ">",
  [BPF_JGE]: ">=",
  [BPF_JSET]: "&",
  [BPF_JNE]: "!=",
  [BPF_JSGT]: "s>",
  [BPF_JSGE]: "s>=",
  [BPF_JLT]: "<",
  [BPF_JLE]: "<=",
  [BPF_JSLT]: "s<",
  [BPF_JSLE]: "s<=",
};

const helperNames: ReadonlyMap<number, string> = new Map(
  Object.entries(bpfHelpers).map(([name, id]) => [id, name]),
);

function formatDistance(distance: number): string {
  return `pc${distance < 0 ? "" : "+"}${distance}`;
}

/** Formats a jump or a call. Returns `undefined` for an unknown opcode. */
function formatJump(instruction: Instruction): string | undefined {
  const { opcode, dst, src, offset } = instruction;
  const imm = Number(instruction.imm);
  const target =
    instruction.reference?.kind === "label"
      ? instruction.reference.name
      : formatDistance(opcode === GOTOL ? imm : offset);
  switch (opcode) {
    case CALL:
      return formatCall(instruction, imm);
    case BPF_JMP | BPF_EXIT:
      return "exit";
    case BPF_JMP | BPF_JA:
      return `goto ${target}`;
    case BPF_JMP | BPF_JA | BPF_X:
      return `gotox r${dst}`;
    case GOTOL:
      return `gotol ${target}`;
    case BPF_JMP | BPF_JCOND:
      // The source register selects the condition. may_goto (0) is the only one so far.
      return src === 0 ? `may_goto ${target}` : undefined;
  }
  const symbol = symbols[operationOf(opcode)];
  if (symbol === undefined) return undefined;
  const prefix = classOf(opcode) === BPF_JMP32 ? "w" : "r";
  const operand = sourceOf(opcode) === BPF_X ? `${prefix}${src}` : `0x${(imm >>> 0).toString(16)}`;
  return `if ${prefix}${dst} ${symbol} ${operand} goto ${target}`;
}

function formatCall({ src, reference }: Instruction, imm: number): string | undefined {
  switch (src) {
    case 0:
      // In translated code of a loaded program the immediate is a distance to a kernel function, not the number of a helper.
      if (reference?.kind === "kernelFunction") return `call ${reference.name}`;
      return `call ${helperNames.has(imm) ? `bpf_${helperNames.get(imm)}` : "unknown"}#${imm}`;
    case BPF_PSEUDO_CALL:
      return `call ${reference?.kind === "function" ? reference.name : formatDistance(imm)}`;
    case BPF_PSEUDO_KFUNC_CALL:
      return reference?.kind === "kernelFunction"
        ? `call ${reference.name}`
        : `call kernel-function#${imm}`;
    default:
      return undefined;
  }
}

/** Formats an lddw. Returns `undefined` if the meaning of its immediate is unknown. */
function formatLddw(instruction: Instruction, imm: bigint): string | undefined {
  const value =
    instruction.reference === undefined
      ? formatImmediate(instruction, imm)
      : formatReference(instruction);
  return value === undefined ? undefined : `r${instruction.dst} = ${value}`;
}

function formatReference({ reference }: Instruction): string | undefined {
  switch (reference?.kind) {
    case "map":
      return `map[${formatMap(reference.map)}]`;
    case "mapValue":
      return `map[${formatMap(reference.map)}][0]+${reference.offset}`;
    case "function":
      return `subprog[${reference.name}]`;
    case "kernelSymbol":
      return `ksym[${reference.name}]`;
    default:
      return undefined;
  }
}

function formatMap(map: MapReference): string {
  return typeof map === "string" ? map : formatOpenMap(map);
}

/**
 * Returns the name of an open map. Reading the file descriptor of a closed map throws, but formatting a program must not
 * throw.
 */
function formatOpenMap(map: LiveMap): string {
  try {
    return `fd:${map.fd}`;
  } catch {
    return "closed";
  }
}

function formatImmediate({ src }: Instruction, imm: bigint): string | undefined {
  const low = Number(BigInt.asIntN(32, imm));
  const high = Number(BigInt.asUintN(32, imm >> 32n));
  switch (src) {
    case lddwKind.number:
      return `0x${imm.toString(16)}`;
    case lddwKind.mapFd:
      return `map[fd:${low}]`;
    case lddwKind.mapValue:
      return `map[fd:${low}][0]+${high}`;
    case lddwKind.mapIndex:
      return `map[idx:${low}]`;
    case lddwKind.mapIndexValue:
      return `map[idx:${low}][0]+${high}`;
    case lddwKind.kernelSymbol:
      return high === 0 ? `ksym[btf:${low}]` : `ksym[btf:${low} in fd:${high}]`;
    case lddwKind.function:
      return `subprog[${low < 0 ? "" : "+"}${low}]`;
    default:
      return undefined;
  }
}

const LAST_REGISTER = 10;

const aluSymbols: Readonly<Record<number, string>> = {
  [BPF_ADD]: "+=",
  [BPF_SUB]: "-=",
  [BPF_MUL]: "*=",
  [BPF_DIV]: "/=",
  [BPF_OR]: "|=",
  [BPF_AND]: "&=",
  [BPF_LSH]: "<<=",
  [BPF_RSH]: ">>=",
  [BPF_MOD]: "%=",
  [BPF_XOR]: "^=",
  [BPF_MOV]: "=",
  [BPF_ARSH]: "s>>=",
};

const atomicNames: Readonly<Record<number, string>> = {
  [BPF_ADD]: "add",
  [BPF_OR]: "or",
  [BPF_AND]: "and",
  [BPF_XOR]: "xor",
};

const bits: Readonly<Record<number, number>> = {
  [BPF_B]: 8,
  [BPF_H]: 16,
  [BPF_W]: 32,
  [BPF_DW]: 64,
};

/** Formats an instruction. Returns `undefined` for an unknown opcode or operation. */
function formatInstruction(instruction: Instruction): string | undefined {
  const { opcode, dst, src, imm } = instruction;
  if (dst > LAST_REGISTER || src > LAST_REGISTER) return undefined;
  if (typeof imm === "bigint") return opcode === LDDW ? formatLddw(instruction, imm) : undefined;
  switch (classOf(opcode)) {
    case BPF_ALU:
    case BPF_ALU64:
      return formatAlu(instruction);
    case BPF_LD:
      return formatPacketLoad(instruction);
    case BPF_LDX:
      return formatLoad(instruction);
    case BPF_ST:
      return formatStore(instruction);
    case BPF_STX:
      return modeOf(opcode) === BPF_ATOMIC
        ? formatAtomic(instruction, imm)
        : formatStore(instruction);
    default:
      return formatJump(instruction);
  }
}

function formatAlu(instruction: Instruction): string | undefined {
  const { opcode, dst, src, offset, imm } = instruction;
  const is64 = classOf(opcode) === BPF_ALU64;
  const prefix = is64 ? "r" : "w";
  const operation = operationOf(opcode);
  if (operation === BPF_END) return formatByteOrder(instruction, is64);
  if (operation === BPF_NEG) {
    return sourceOf(opcode) === BPF_X ? undefined : `${prefix}${dst} = -${prefix}${dst}`;
  }
  const symbol = aluSymbols[operation];
  if (symbol === undefined) return undefined;
  if (operation === BPF_MOV && sourceOf(opcode) === BPF_X)
    return formatMove(instruction, is64, prefix);
  // The offset is reserved, except in a division, where 1 means signed.
  const isSigned = offset === 1 && (operation === BPF_DIV || operation === BPF_MOD);
  if (offset !== 0 && !isSigned) return undefined;
  const operand = sourceOf(opcode) === BPF_X ? `${prefix}${src}` : imm;
  return `${prefix}${dst} ${isSigned ? "s" : ""}${symbol} ${operand}`;
}

function formatMove(
  { dst, src, offset, imm }: Instruction,
  is64: boolean,
  prefix: string,
): string | undefined {
  switch (offset) {
    case 0:
      return `${prefix}${dst} = ${prefix}${src}`;
    case 8:
    case 16:
      return `${prefix}${dst} = (s${offset})${prefix}${src}`;
    case 32:
      return is64 ? `r${dst} = (s32)r${src}` : undefined;
    case BPF_ADDR_SPACE_CAST: {
      const spaces = Number(imm);
      return is64
        ? `r${dst} = addr_space_cast(r${src}, ${spaces >>> 16}, ${spaces & 0xffff})`
        : undefined;
    }
    // The verifier makes this move itself; it appears in the instructions of loaded programs.
    case BPF_ADDR_PERCPU:
      return is64 ? `r${dst} = &(void __percpu *)(r${src})` : undefined;
    default:
      return undefined;
  }
}

function formatByteOrder({ opcode, dst, imm }: Instruction, is64: boolean): string | undefined {
  if (imm !== 16 && imm !== 32 && imm !== 64) return undefined;
  const isBigEndian = sourceOf(opcode) === BPF_TO_BE;
  if (is64) return isBigEndian ? undefined : `r${dst} = bswap${imm} r${dst}`;
  return `r${dst} = ${isBigEndian ? "be" : "le"}${imm} r${dst}`;
}

/** Formats a memory operand: `(u32 *)(r1 +4)`. */
function formatMemory(sign: "u" | "s", opcode: number, register: number, offset: number): string {
  const at = offset < 0 ? offset : `+${offset}`;
  return `(${sign}${bits[sizeOf(opcode)]} *)(r${register} ${at})`;
}

function formatLoad({ opcode, dst, src, offset }: Instruction): string | undefined {
  const mode = modeOf(opcode);
  if (mode === BPF_MEM) return `r${dst} = *${formatMemory("u", opcode, src, offset)}`;
  // A load of 64 bits cannot be sign-extended.
  if (mode !== BPF_MEMSX || sizeOf(opcode) === BPF_DW) return undefined;
  return `r${dst} = *${formatMemory("s", opcode, src, offset)}`;
}

function formatStore({ opcode, dst, src, offset, imm }: Instruction): string | undefined {
  if (modeOf(opcode) === BPF_MEM) {
    const value = classOf(opcode) === BPF_STX ? `r${src}` : imm;
    return `*${formatMemory("u", opcode, dst, offset)} = ${value}`;
  }
  // BPF_NOSPEC is a speculation barrier that the verifier inserts; it appears in the instructions of loaded programs.
  return opcode === (BPF_ST | BPF_ATOMIC) ? "nospec" : undefined;
}

function formatPacketLoad({ opcode, src, imm }: Instruction): string | undefined {
  if (sizeOf(opcode) === BPF_DW) return undefined;
  const start = `r0 = *(u${bits[sizeOf(opcode)]} *)skb`;
  if (modeOf(opcode) === BPF_ABS) return `${start}[${imm}]`;
  if (modeOf(opcode) === BPF_IND) return `${start}[r${src} + ${imm}]`;
  return undefined;
}

function formatAtomic({ opcode, dst, src, offset }: Instruction, imm: number): string | undefined {
  const place = formatMemory("u", opcode, dst, offset);
  if (imm === BPF_LOAD_ACQ)
    return `r${dst} = load_acquire(${formatMemory("u", opcode, src, offset)})`;
  if (imm === BPF_STORE_REL) return `store_release(${place}, r${src})`;
  // The other atomic operations have 32 or 64 bits.
  if (sizeOf(opcode) !== BPF_W && sizeOf(opcode) !== BPF_DW) return undefined;
  const prefix = sizeOf(opcode) === BPF_DW ? "atomic64" : "atomic";
  if (imm === BPF_CMPXCHG) return `r0 = ${prefix}_cmpxchg(${place}, r0, r${src})`;
  if (imm === BPF_XCHG) return `r${src} = ${prefix}_xchg(${place}, r${src})`;
  const name = atomicNames[imm & ~BPF_FETCH];
  if (name === undefined) return undefined;
  if ((imm & BPF_FETCH) === 0) return `lock *${place} ${aluSymbols[imm]} r${src}`;
  return `r${src} = ${prefix}_fetch_${name}(${place}, r${src})`;
}

/**
 * Formats an instruction as text, in the notation of the verifier's log and without its slot. An unknown
 * instruction is shown as its bytes.
 *
 * @example
 * ```ts
 * import { asm, disassembleInstruction } from "bun-bpf";
 *
 * disassembleInstruction(asm.ldxw(asm.r1, asm.r2, 4)); // r1 = *(u32 *)(r2 +4)
 * ```
 */
export function disassembleInstruction(instruction: Instruction): string {
  return formatInstruction(instruction) ?? `bytes ${hexadecimal(instruction)}`;
}

/**
 * Formats a program as text, in the notation of the verifier's log. Each instruction has a line with its slot
 * and opcode. Labels, functions and source positions have separate lines. Unknown instructions are shown
 * as their bytes.
 *
 * @param program - code of a program, or encoded instructions
 *
 * @example
 * ```ts
 * import { asm, disassemble } from "bun-bpf";
 * const { r0, r1, ldxw, jeq, mov, label, exit } = asm;
 *
 * disassemble([ldxw(r0, r1, 0), jeq(r0, 0, "out"), mov(r0, 1), label("out"), exit()]);
 * //    0: (61) r0 = *(u32 *)(r1 +0)
 * //    1: (15) if r0 == 0x0 goto out
 * //    2: (b7) r0 = 1
 * // out:
 * //    3: (95) exit
 * ```
 */
export function disassemble(program: Code | Uint8Array): string {
  if (!(program instanceof Uint8Array)) return formatLines(flatten(program)).join("\n");
  const whole = program.length - (program.length % SLOT_SIZE);
  const text = formatLines(decode(program.subarray(0, whole)));
  if (whole < program.length) text.push(`      bytes ${hexBytes(program.subarray(whole))}`);
  return text.join("\n");
}

function* flatten(code: Code): Generator<CodeItem> {
  for (const item of code) {
    // Array.isArray does not narrow to a read-only array.
    if (Array.isArray(item)) yield* flatten(item as Code);
    else yield item as CodeItem;
  }
}

function formatLines(items: Iterable<CodeItem>): string[] {
  const text: string[] = [];
  let slot = 0;
  let position = "";
  for (const item of items) {
    if (!isInstruction(item)) {
      text.push("function" in item ? `func ${item.function}` : `${item.label}:`);
      continue;
    }
    if (item.label !== undefined) text.push(`${item.label}:`);
    const comment = item.source === undefined ? "" : formatPosition(item.source);
    if (comment !== "" && comment !== position) text.push(comment);
    position = comment;
    const opcode = item.opcode.toString(16).padStart(2, "0");
    text.push(`${String(slot).padStart(4)}: (${opcode}) ${disassembleInstruction(item)}`);
    slot += slotsOf(item);
  }
  return text;
}

/** Formats a source position as a comment line: `; return 0; @ count.c:12`. */
export function formatPosition({ file, line, text }: SourcePosition): string {
  return `; ${text === undefined ? "" : `${text.trim()} `}@ ${file}:${line}`;
}
