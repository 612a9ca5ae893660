import { openById } from "../ffi/bpf_object.ts";
import { readBtfObject } from "../ffi/bpf_btf.ts";
import { Descriptor } from "../ffi/descriptor.ts";
import { checkCount, checkOptions } from "../check/arguments.ts";
import { describe } from "../check/describe.ts";
import { Decoder } from "./decode.ts";
import type {
  BtfEnumerator,
  BtfField,
  BtfKind,
  BtfMember,
  BtfType,
  BtfVariable,
} from "./description.ts";
import { parseRawBtf } from "./format.ts";
import { readKernelBtf } from "./kernel.ts";
import { TypeTable } from "./type_table.ts";
import type { BtfDecodeOptions, BtfValue } from "./value.ts";

export type {
  BtfEnumerator,
  BtfField,
  BtfKind,
  BtfMember,
  BtfType,
  BtfVariable,
} from "./description.ts";

const pointerSize = 8;
/** Types that lead to one another: the kernel takes no longer chains either (MAX_RESOLVE_DEPTH). */
const longestChain = 32;

/**
 * Type information in the BPF Type Format: what the kernel says of its own structs, functions and tracepoints, and
 * programs and maps of theirs.
 *
 * Reading is lazy: parsing finds where each type starts, and a type is decoded when it is asked for.
 * Kernel 4.18 for BTF itself; 5.4 with `CONFIG_DEBUG_INFO_BTF` for the running kernel's.
 * Format: the kernel's Documentation/bpf/btf.rst.
 *
 * @example
 * ```ts
 * import { Btf } from "bun-bpf";
 * const { offset, size } = Btf.kernel().field("task_struct", "tgid");
 * console.log(`task_struct.tgid: ${size} bytes at ${offset}`);
 * ```
 */
export class Btf {
  static #kernel: Btf | undefined;

  readonly #table: TypeTable;
  readonly #decoders = new Map<BtfDecodeOptions["pointers"], Decoder>();

  private constructor(table: TypeTable) {
    this.#table = table;
  }

  /**
   * The running kernel's own BTF, read once and kept.
   *
   * @throws {BpfError} `ENOENT` when the kernel has none (`CONFIG_DEBUG_INFO_BTF` is off, or before 5.4)
   */
  static kernel(): Btf {
    Btf.#kernel ??= Btf.parse(readKernelBtf());
    return Btf.#kernel;
  }

  /**
   * Reads the raw form, as in `/sys/kernel/btf/vmlinux` or the `.BTF` section of an object file.
   *
   * @param base whose types come before these: that of the kernel, for `/sys/kernel/btf/` and the name of a module
   * @throws {RangeError} when the bytes are not BTF of this machine's byte order
   */
  static parse(bytes: Uint8Array, base?: Btf): Btf {
    if (base === undefined) return new Btf(new TypeTable(parseRawBtf(bytes)));
    return new Btf(new TypeTable(parseRawBtf(bytes, true), base.#table));
  }

  /**
   * Reads a BTF that the kernel has, by its id: of a map ({@link MapInfo}), a program, the kernel itself or a module.
   *
   * Kernel 4.18, CAP_SYS_ADMIN.
   *
   * @throws {BpfError} `ENOENT` when there is no such BTF, `EPERM` without CAP_SYS_ADMIN
   * @throws {RangeError} for what can be no id
   *
   * @example
   * ```ts
   * import { Btf, HashMap, t } from "bun-bpf";
   * const value = t.struct({ pid: t.u32, comm: t.cstring(16) });
   * using map = new HashMap({ key: t.u32, value, maxEntries: 8 });
   * const { btfId, btfValueTypeId } = map.info();
   * console.log(Btf.fromId(btfId).members(btfValueTypeId).map(({ name }) => name)); // [ "pid", "comm" ]
   * ```
   */
  static fromId(id: number): Btf {
    checkCount("id", id, 1, 0xffffffff);
    using descriptor = new Descriptor(openById("btf", id), `BTF ${id}`);
    const { bytes, name, isKernel } = readBtfObject(descriptor.fd, descriptor.what);
    // Those of modules refer to the kernel's types; all others are whole by themselves.
    return Btf.parse(bytes, isKernel && name !== "vmlinux" ? Btf.kernel() : undefined);
  }

  /** Number of types, void (id 0) and those of the base included. */
  get length(): number {
    return this.#table.length;
  }

  /** The type with this id. @throws {RangeError} when there is none */
  type(id: number): BtfType {
    return this.#table.type(id);
  }

  /**
   * The id of the type with this name and kind, or `undefined`.
   *
   * @example
   * ```ts
   * import { Btf } from "bun-bpf";
   * console.log(Btf.kernel().find("struct", "task_struct"));
   * ```
   */
  find(kind: BtfKind, name: string): number | undefined {
    return this.#table.find(kind, name);
  }

  /** All ids of this kind, in order. */
  ids(kind: BtfKind): Generator<number, void, undefined> {
    return this.#table.ids(kind);
  }

  /** The members of a struct or union as declared: anonymous ones are not opened. @throws {RangeError} for another kind */
  members(id: number): BtfMember[] {
    return this.#table.members(id);
  }

  /** The enumerators of an enum. @throws {RangeError} for another kind */
  enumerators(id: number): BtfEnumerator[] {
    return this.#table.enumerators(id);
  }

  /** The variables of a section (`datasec`) of a program's global data. @throws {RangeError} for another kind */
  variables(id: number): BtfVariable[] {
    return this.#table.variables(id);
  }

  /**
   * Makes a value of JavaScript of the bytes of a type:
   *
   * - integers of up to 4 bytes are numbers, longer ones bigints, `bool` a boolean; floating-point ones numbers;
   * - enums are the name of the enumerator, or the number where none has it;
   * - structs are objects by the names of their members, those of anonymous structs and unions among them; unions are
   *   objects of all their members; sections are objects by the names of their variables; bit-fields are as integers and
   *   enums;
   * - arrays are arrays; an array of `char` that holds text up to a NUL is that text. An array without a length, at the
   *   end of a struct, has as many elements as there are bytes for;
   * - pointers are bigints, or hexadecimal with `{ pointers: "hex" }`.
   *
   * @param bytes as many as the type takes, or more
   * @throws {RangeError} when there are fewer, the type has no values (such as a function), or there is no such type
   * @throws {TypeError} for what are no bytes, and misspelt options
   *
   * @example
   * ```ts
   * import { Btf } from "bun-bpf";
   * const btf = Btf.kernel();
   * const id = btf.find("struct", "list_head");
   * const bytes = new Uint8Array(16).fill(255, 0, 8);
   * if (id === undefined) throw new Error("this kernel has no lists");
   * console.log(btf.decode(id, bytes, { pointers: "hex" })); // { next: 0xffffffffffffffff, prev: 0x0 }
   * ```
   */
  decode(id: number, bytes: Uint8Array, options: BtfDecodeOptions = {}): BtfValue {
    checkOptions("decode", options, ["pointers"]);
    const { pointers = "bigint" } = options;
    if (pointers !== "bigint" && pointers !== "hex") {
      throw new TypeError(`pointers: expected "bigint" or "hex", got ${describe(pointers)}`);
    }
    if (!(bytes instanceof Uint8Array)) {
      throw new TypeError(`bytes: expected a Uint8Array, got ${describe(bytes)}`);
    }
    let decoder = this.#decoders.get(pointers);
    if (decoder === undefined) {
      const resolve = (typeId: number) => this.resolve(typeId);
      const sizeOf = (typeId: number) => this.sizeOf(typeId);
      decoder = new Decoder({ table: this.#table, resolve, sizeOf }, { pointers });
      this.#decoders.set(pointers, decoder);
    }
    return decoder.decode(id, bytes);
  }

  /** Follows typedefs and qualifiers (const, volatile, restrict, type tags) to the type behind them. */
  resolve(id: number): BtfType {
    let type = this.type(id);
    for (let steps = 0; transparentKinds.has(type.kind); steps++) {
      if (steps === longestChain) throw endless(id);
      type = this.type(type.typeId);
    }
    return type;
  }

  /** Bytes that a value of this type takes. */
  sizeOf(id: number): number {
    let type = this.resolve(id);
    let count = 1;
    for (let steps = 0; type.kind === "array"; steps++) {
      if (steps === longestChain) throw endless(id);
      count *= type.length;
      type = this.resolve(type.typeId);
    }
    return count * (type.kind === "ptr" ? pointerSize : type.size);
  }

  /**
   * Where a field is in a struct or union, by name: `"tgid"`, or a path `"mm.arg_start"` through embedded structs.
   * Members of anonymous structs and unions count as the outer struct's, as in C.
   *
   * @throws {RangeError} when the kernel has no such struct or field, or the field is a bit-field
   *
   * @example
   * ```ts
   * import { Btf } from "bun-bpf";
   * console.log(Btf.kernel().field("task_struct", "real_parent").offset);
   * ```
   */
  field(structName: string, path: string): BtfField {
    const structId = this.find("struct", structName) ?? this.find("union", structName);
    if (structId === undefined)
      throw new RangeError(`this BTF has no struct or union ${structName}`);
    let typeId = structId;
    let bitOffset = 0;
    for (const name of path.split(".")) {
      const type = this.resolve(typeId);
      const member =
        type.kind === "struct" || type.kind === "union"
          ? this.#member(type.id, name, 0, new Set())
          : undefined;
      if (member === undefined)
        throw new RangeError(`${structName} has no field ${path} in this BTF`);
      if (member.bitSize !== 0) throw new RangeError(`${structName}.${path} is a bit-field`);
      bitOffset += member.bitOffset;
      typeId = member.typeId;
    }
    return { offset: bitOffset / 8, size: this.sizeOf(typeId), typeId };
  }

  /** @param searched structs that were looked through in vain: one that comes again, or is inside itself, is passed over */
  #member(
    structId: number,
    name: string,
    base: number,
    searched: Set<number>,
  ): BtfMember | undefined {
    if (searched.has(structId)) return undefined;
    searched.add(structId);
    for (const member of this.members(structId)) {
      if (member.name === name) return { ...member, bitOffset: base + member.bitOffset };
      if (member.name !== "") continue;
      const inner = this.resolve(member.typeId);
      if (inner.kind !== "struct" && inner.kind !== "union") continue;
      const found = this.#member(inner.id, name, base + member.bitOffset, searched);
      if (found !== undefined) return found;
    }
    return undefined;
  }
}

const transparentKinds = new Set<BtfKind>(["typedef", "volatile", "const", "restrict", "type_tag"]);

function endless(id: number): RangeError {
  return new RangeError(
    `BTF type ${id} leads through more than ${longestChain} others: the bytes are damaged`,
  );
}
