/** @module The code of loaded programs: BPF instructions after the verifier, machine code, and the source lines of both. */

import { decode, CALL, LDDW } from "../asm/encode.ts";
import { type Instruction, type SourcePosition, slotsOf } from "../asm/instruction.ts";
import { Btf, visibleBtf } from "../btf/btf.ts";
import { type BufferedInfo, bufferedInfo, type InfoBuffer, objectInfo } from "../ffi/bpf_object.ts";
import { BpfError } from "../ffi/error.ts";
import { architecture } from "../ffi/platform.ts";
import { KernelSymbols } from "../symbols/kernel_symbols.ts";
import { BPF_TAG_SIZE } from "../uapi/bpf.ts";
import { bpfHelpers } from "../uapi/helpers.ts";
import {
  BPF_PSEUDO_CALL,
  BPF_PSEUDO_FUNC,
  BPF_PSEUDO_KFUNC_CALL,
  BPF_PSEUDO_MAP_FD,
  BPF_PSEUDO_MAP_VALUE,
} from "../uapi/instruction.ts";
import { PROG_INFO } from "../uapi/layout.ts";

/** A function of a loaded program. */
export interface ProgramFunction {
  /**
   * The name in the program's BTF. Where the program has no BTF, or this process may not read it (CAP_SYS_ADMIN), the number of
   * the function as in the verifier's log: `"func#0"`.
   */
  readonly name: string;
  /** The declaration in C: `"int count(struct __sk_buff *skb)"`; `undefined` without readable BTF. */
  readonly declaration: string | undefined;
  /** Hash of the function's instructions as 16 hexadecimal digits; `undefined` if the kernel does not report it. */
  readonly tag: string | undefined;
}

/** The BPF instructions of a function of a loaded program. {@link Program.translatedCode} returns them. */
export interface TranslatedFunction extends ProgramFunction {
  /** The index of the function's first slot in the program. */
  readonly slot: number;
  /**
   * The instructions as the verifier has rewritten them, for {@link disassemble}. They have the source positions of the program's
   * line information, and references to the names of functions, helper functions and maps (`"id:7"`). They cannot be loaded again.
   */
  readonly instructions: readonly Instruction[];
}

/** The machine code of a function of a loaded program. {@link Program.machineCode} returns it. */
export interface MachineFunction extends ProgramFunction {
  /** The address of the function in the kernel. */
  readonly address: bigint;
  /** The machine code. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** The source positions in the order of their offsets; empty for a program without line information. */
  readonly lines: readonly MachineLine[];
}

/** The source position of the machine code from an offset on. */
export interface MachineLine {
  /** The number of bytes from the start of the function. */
  readonly offset: number;
  /** The source position. */
  readonly source: SourcePosition;
}

/** The lists of `struct bpf_prog_info` that this file reads. */
const lists = {
  instructions: list(PROG_INFO.xlated_prog_insns, PROG_INFO.xlated_prog_len, 1),
  machineCode: list(PROG_INFO.jited_prog_insns, PROG_INFO.jited_prog_len, 1),
  addresses: list(PROG_INFO.jited_ksyms, PROG_INFO.nr_jited_ksyms, 8),
  lengths: list(PROG_INFO.jited_func_lens, PROG_INFO.nr_jited_func_lens, 4),
  functions: list(PROG_INFO.func_info, PROG_INFO.nr_func_info, 8, PROG_INFO.func_info_rec_size),
  lines: list(PROG_INFO.line_info, PROG_INFO.nr_line_info, 16, PROG_INFO.line_info_rec_size),
  lineAddresses: list(
    PROG_INFO.jited_line_info,
    PROG_INFO.nr_jited_line_info,
    8,
    PROG_INFO.jited_line_info_rec_size,
  ),
  tags: list(PROG_INFO.prog_tags, PROG_INFO.nr_prog_tags, BPF_TAG_SIZE),
} as const;

type ListName = keyof typeof lists;

function list(
  pointer: number,
  count: number,
  elementSize: InfoBuffer["elementSize"],
  sizeField?: number,
): Omit<InfoBuffer, "elements"> {
  return { pointer, count, elementSize, ...(sizeField !== undefined && { sizeField }) };
}

/** Lists of a program's information, which the kernel has filled in. */
class CodeInfo implements Disposable {
  readonly #info: BufferedInfo;
  readonly #counts: ReadonlyMap<ListName, number>;
  /** The program's BTF; `undefined` if it has none that this process may read. */
  readonly btf: Btf | undefined;
  /** True if the kernel has compiled the program to machine code. */
  readonly isJited: boolean;

  /** @throws {BpfError} if the kernel refuses. */
  constructor(fd: number, what: string, names: readonly ListName[]) {
    using sizes = objectInfo(fd, PROG_INFO.sizeof, what);
    this.#counts = new Map(names.map((name) => [name, sizes.u32(lists[name].count)]));
    this.#info = bufferedInfo(
      fd,
      PROG_INFO.sizeof,
      what,
      Array.from(this.#counts, ([name, elements]) => ({ ...lists[name], elements })),
    );
    const btfId = sizes.u32(PROG_INFO.btf_id);
    this.btf = btfId === 0 ? undefined : visibleBtf(btfId);
    this.isJited = sizes.u32(PROG_INFO.jited_prog_len) > 0;
  }

  /** Returns the bytes of a list; `undefined` if the kernel hides it from this process. */
  bytes(name: ListName): DataView | undefined {
    const { pointer } = lists[name];
    // The kernel clears the pointer of a list that it hides, and leaves the count.
    if (this.#counts.get(name) === 0) return new DataView(new ArrayBuffer(0));
    if (this.#info.u64(pointer) === 0n) return undefined;
    return new DataView(this.#info.bytes(pointer).buffer);
  }

  /** Returns the rows of a list of 32-bit numbers. */
  rows(name: ListName): number[][] {
    const view = this.bytes(name);
    const { elementSize } = lists[name];
    if (view === undefined) return [];
    return Array.from({ length: view.byteLength / elementSize }, (_, row) =>
      Array.from({ length: elementSize / 4 }, (_, word) =>
        view.getUint32(row * elementSize + word * 4, true),
      ),
    );
  }

  /** Returns the list of 64-bit numbers. */
  longs(name: ListName): bigint[] {
    const view = this.bytes(name);
    if (view === undefined) return [];
    return Array.from({ length: view.byteLength / 8 }, (_, index) =>
      view.getBigUint64(index * 8, true),
    );
  }

  /** Returns the source positions of the program by slot, in the order of slots. Positions without a line are left out. */
  *lines(): Generator<{ index: number; slot: number; source: SourcePosition }> {
    const { btf } = this;
    if (btf === undefined) return;
    for (const [index, row] of this.rows("lines").entries()) {
      const [slot = 0, file = 0, text = 0, place = 0] = row;
      const [line, column] = [place >>> 10, place & 0x3ff];
      if (line === 0) continue;
      const source = {
        file: btf.stringAt(file),
        line,
        ...(column === 0 ? {} : { column }),
        ...(text === 0 ? {} : { text: btf.stringAt(text) }),
      };
      yield { index, slot, source };
    }
  }

  /** Returns the descriptions of functions, in the order of their numbers. */
  functions(count: number): ProgramFunction[] {
    const typeIds = this.rows("functions").map(([, typeId = 0]) => typeId);
    const tags = this.bytes("tags");
    return Array.from({ length: count }, (_, index) => {
      const typeId = typeIds[index] ?? 0;
      const name = this.btf?.type(typeId).name || `func#${index}`;
      const start = index * BPF_TAG_SIZE;
      const hasTag = tags !== undefined && start + BPF_TAG_SIZE <= tags.byteLength;
      return {
        name,
        declaration: typeId === 0 ? undefined : this.btf?.declaration(typeId),
        tag: hasTag ? Buffer.from(tags.buffer, start, BPF_TAG_SIZE).toString("hex") : undefined,
      };
    });
  }

  [Symbol.dispose](): void {
    this.#info[Symbol.dispose]();
  }
}

/**
 * Reads the BPF instructions of a program. Returns `undefined` if the kernel hides them.
 *
 * @param what a description of the program for errors
 * @throws {BpfError} if the kernel refuses.
 */
export function readTranslatedCode(fd: number, what: string): TranslatedFunction[] | undefined {
  using info = new CodeInfo(fd, what, ["instructions", "functions", "lines", "tags"]);
  const bytes = info.bytes("instructions");
  if (bytes === undefined || bytes.byteLength === 0) return undefined;
  const placed = place(decode(new Uint8Array(bytes.buffer)));
  const starts = functionStarts(info, placed);
  const described = info.functions(starts.length);
  const names = new CodeNames(starts, described, info.isJited);
  const sources = new Map(Array.from(info.lines(), ({ slot, source }) => [slot, source]));
  const functions = described.map((one, index) => ({
    ...one,
    slot: starts[index] as number,
    instructions: [] as Instruction[],
  }));
  let current = 0;
  let source: SourcePosition | undefined;
  for (const { instruction, slot } of placed) {
    if (slot === starts[current + 1]) {
      current++;
      // A position in one function says nothing about the next one.
      source = undefined;
    }
    source = sources.get(slot) ?? source;
    const named = names.resolve(instruction, slot);
    functions[current]?.instructions.push(source === undefined ? named : { ...named, source });
  }
  return functions;
}

/** An instruction and its slot. */
interface Placed {
  readonly instruction: Instruction;
  readonly slot: number;
}

function place(instructions: readonly Instruction[]): Placed[] {
  let next = 0;
  return instructions.map((instruction) => {
    const slot = next;
    next += slotsOf(instruction);
    return { instruction, slot };
  });
}

/** Returns the first slots of a program's functions: those of its function information, otherwise those that are called. */
function functionStarts(info: CodeInfo, placed: readonly Placed[]): number[] {
  const recorded = info.rows("functions").map(([slot = 0]) => slot);
  if (recorded.length > 0) return recorded;
  const called = placed.flatMap(({ instruction, slot }) => {
    const distance = callDistance(instruction);
    // No function can start after a call. 0 stands for a distance that does not fit.
    return distance === undefined || distance === 0 ? [] : [slot + 1 + distance];
  });
  return [...new Set([0, ...called])].sort((one, other) => one - other);
}

/**
 * Returns the distance in slots from the next slot to the function that a translated instruction refers to; `undefined` for other
 * instructions. That of a call is in its offset of 16 bits: a longer one is cut, on newer kernels 0.
 */
function callDistance({ opcode, src, offset, imm }: Instruction): number | undefined {
  if (opcode === CALL && src === BPF_PSEUDO_CALL) return offset;
  if (opcode === LDDW && src === BPF_PSEUDO_FUNC) return Number(BigInt.asIntN(32, BigInt(imm)));
  return undefined;
}

/** Finds the names that translated instructions refer to. The kernel's symbols are read for the first call of a helper. */
class CodeNames {
  readonly #starts: readonly number[];
  readonly #isJited: boolean;
  readonly #functions: readonly ProgramFunction[];
  #symbols: KernelSymbols | undefined;
  #base: bigint | undefined;
  #areSymbolsRead = false;

  constructor(starts: readonly number[], functions: readonly ProgramFunction[], isJited: boolean) {
    this.#starts = starts;
    this.#functions = functions;
    this.#isJited = isJited;
  }

  /** Returns an instruction with a reference to what it refers to, where the name is known. */
  resolve(instruction: Instruction, slot: number): Instruction {
    const { opcode, src, imm } = instruction;
    const distance = callDistance(instruction);
    if (distance !== undefined) {
      const called = this.#calledFunction(instruction, slot + 1 + distance);
      return called === undefined
        ? instruction
        : { ...instruction, reference: { kind: "function", name: called.name } };
    }
    if (opcode === LDDW && (src === BPF_PSEUDO_MAP_FD || src === BPF_PSEUDO_MAP_VALUE)) {
      // The kernel replaces the address of a map by its id, and that of a value by the id and the offset.
      const id = Number(BigInt.asUintN(32, BigInt(imm)));
      const offset = Number(BigInt.asUintN(32, BigInt(imm) >> 32n));
      const map = `id:${id}`;
      return {
        ...instruction,
        reference:
          src === BPF_PSEUDO_MAP_FD ? { kind: "map", map } : { kind: "mapValue", map, offset },
      };
    }
    if (opcode !== CALL) return instruction;
    const name =
      src === BPF_PSEUDO_KFUNC_CALL ? this.#kfuncName(Number(imm)) : this.#helperName(Number(imm));
    return name === undefined
      ? instruction
      : { ...instruction, reference: { kind: "kernelFunction", name } };
  }

  /** Returns the function that an instruction refers to. @param target the slot of its start, of which a call has only 16 bits */
  #calledFunction({ opcode, imm }: Instruction, target: number): ProgramFunction | undefined {
    if (opcode !== CALL) return this.#functions[this.#starts.indexOf(target)];
    // The kernel stores the number of the function, if it has compiled the program, and older ones if the distance fits.
    const numbered = this.#isJited ? this.#functions[Number(imm)] : undefined;
    if (numbered !== undefined) return numbered;
    const isAt = (start: number) => ((start ^ target) & 0xffff) === 0;
    const first = this.#starts.findIndex(isAt);
    const isUnique = this.#starts.findLastIndex(isAt) === first;
    return isUnique ? this.#functions[first] : undefined;
  }

  #helperName(distance: number): string | undefined {
    // Tail calls are instructions of their own, which the kernel shows as calls of the helper.
    return distance === bpfHelpers.tail_call ? undefined : this.#symbolName(distance);
  }

  /** @param imm the id of the function in the kernel's BTF, if the JIT compiler can call distant functions, otherwise a distance */
  #kfuncName(imm: number): string | undefined {
    const atDistance = this.#symbolName(imm);
    const inBtf = kernelFunctionName(imm);
    // Of these architectures, the JIT compiler for x86-64 calls by distances (bpf_jit_supports_far_kfunc_call()).
    return architecture === "x64" ? (atDistance ?? inBtf) : (inBtf ?? atDistance);
  }

  /** Returns the name of the kernel's function at a distance from `__bpf_call_base`, from which the kernel calls helpers. */
  #symbolName(distance: number): string | undefined {
    // The kernel shows 0 to processes that may not see its addresses.
    if (distance === 0) return undefined;
    if (!this.#areSymbolsRead) {
      this.#areSymbolsRead = true;
      this.#symbols = readableSymbols();
      this.#base = this.#symbols?.address("__bpf_call_base");
    }
    if (this.#base === undefined) return undefined;
    const symbol = this.#symbols?.lookup(BigInt.asUintN(64, this.#base + BigInt(distance)));
    return symbol?.offset === 0 ? symbol.name : undefined;
  }
}

/** Returns the name of a kernel function by its id in the kernel's BTF. */
function kernelFunctionName(id: number): string | undefined {
  const btf = Btf.kernel();
  if (id <= 0 || id >= btf.length) return undefined;
  const { kind, name } = btf.type(id);
  return kind === "func" ? name : undefined;
}

/** Reads the kernel's symbols; `undefined` if the kernel hides addresses from this process, or has no symbols. */
function readableSymbols(): KernelSymbols | undefined {
  try {
    return KernelSymbols.read();
  } catch (error) {
    // A BpfError means that the process has no free descriptor.
    if (error instanceof BpfError) throw error;
    return undefined;
  }
}

/**
 * Reads the machine code of a program. Returns `undefined` if the kernel hides it, and an empty array if the kernel interprets the
 * program.
 *
 * @param what a description of the program for errors
 * @throws {BpfError} if the kernel refuses.
 */
export function readMachineCode(fd: number, what: string): MachineFunction[] | undefined {
  if (isCodeHidden(fd, what)) return undefined;
  using info = new CodeInfo(fd, what, [
    "machineCode",
    "addresses",
    "lengths",
    "functions",
    "lines",
    "lineAddresses",
    "tags",
  ]);
  const code = info.bytes("machineCode");
  if (code === undefined) return undefined;
  if (code.byteLength === 0) return [];
  const lengths = info.rows("lengths").map(([length = 0]) => length);
  const addresses = info.longs("addresses");
  const described = info.functions(addresses.length);
  let start = 0;
  const functions = addresses.map((address, index) => {
    const end = start + (lengths[index] ?? 0);
    const bytes = new Uint8Array(code.buffer.slice(start, end) as ArrayBuffer);
    start = end;
    return { ...(described[index] as ProgramFunction), address, bytes, lines: [] as MachineLine[] };
  });
  // A program with line information has function information, too. Both are in the order of slots.
  const starts = info.rows("functions").map(([slot = 0]) => slot);
  const lineAddresses = info.longs("lineAddresses");
  let current = 0;
  for (const { index, slot, source } of info.lines()) {
    while (slot >= (starts[current + 1] ?? Number.POSITIVE_INFINITY)) current++;
    const place = functions[current];
    const address = lineAddresses[index];
    if (place === undefined || address === undefined) continue;
    place.lines.push({ offset: Number(address - place.address), source });
  }
  return functions;
}

/** Returns true if the kernel hides all code from this process, for which it reports a size of 0. */
function isCodeHidden(fd: number, what: string): boolean {
  using sizes = objectInfo(fd, PROG_INFO.sizeof, what);
  return sizes.u32(PROG_INFO.xlated_prog_len) === 0;
}
