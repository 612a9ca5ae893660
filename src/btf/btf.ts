import {
  closeSync,
  existsSync,
  fstatSync,
  openSync,
  readdirSync,
  readFileSync,
} from "../ffi/files.ts";
import { openById } from "../ffi/bpf_object.ts";
import { readBtfObject } from "../ffi/bpf_btf.ts";
import { Descriptor } from "../ffi/descriptor.ts";
import { BpfError, explainNoDescriptor } from "../ffi/error.ts";
import { MappedMemory } from "../ffi/mapped_memory.ts";
import { checkCount, checkOptions } from "../check/arguments.ts";
import { describe, type InspectArguments, inspectCustom, show } from "../check/describe.ts";
import type { Type } from "../types/type.ts";
import { declaration } from "./declaration.ts";
import { type BtfDecodeOptions, type BtfValue, Decoder } from "./decode.ts";
import { BtfGraph } from "./graph.ts";
import { TypeMaker } from "./to_type.ts";

/**
 * Type information in the BPF Type Format (BTF). The kernel's BTF describes its structs, functions and tracepoints; the BTF of a
 * program or map describes the types that it uses. Documentation/bpf/btf.rst in the kernel's sources specifies the format.
 *
 * Each type has an id, from 1 to `length - 1`; id 0 is `void`. Parsing only finds the start of each type. Methods decode a
 * type when they need it. Since Linux 6.16 the kernel's BTF is mapped instead of copied.
 *
 * @example
 * ```ts
 * import { Btf } from "bun-bpf";
 * const { offset, size } = Btf.kernel().field("task_struct", "tgid");
 * console.log(`task_struct.tgid: ${size} bytes at ${offset}`);
 * ```
 *
 * Requires Linux 4.18; the running kernel's BTF requires 5.4 and `CONFIG_DEBUG_INFO_BTF`.
 */
export class Btf extends BtfGraph {
  static #kernel: Btf | undefined;

  readonly #decoders = new Map<BtfDecodeOptions["pointers"], Decoder>();
  #types: TypeMaker | undefined;

  private constructor(bytes: Uint8Array, base: Btf | undefined) {
    super(bytes, base);
  }

  /**
   * Returns the BTF of the running kernel. The first call reads it; later calls return the same object.
   *
   * @throws {BpfError} ENOENT if the kernel has no BTF (`CONFIG_DEBUG_INFO_BTF` is off), or /sys is not mounted.
   *
   * Requires Linux 5.4.
   */
  static kernel(): Btf {
    Btf.#kernel ??= Btf.parse(readKernelBtf());
    return Btf.#kernel;
  }

  /**
   * Reads the BTF of a loaded module. It contains the kernel's types, too. Every call reads it again, because modules can be
   * loaded again with other types.
   *
   * @param name the name of the module, with underscores: `"nf_conntrack"`
   * @throws {BpfError} ENOENT if no module of this name is loaded, or it has no BTF.
   *
   * @example
   * ```ts
   * import { readdirSync } from "node:fs";
   * import { Btf } from "bun-bpf";
   * const modules = readdirSync("/sys/kernel/btf").filter((name) => name !== "vmlinux");
   * for (const name of modules) console.log(name, Btf.module(name).length - Btf.kernel().length);
   * ```
   *
   * Requires Linux 5.11.
   */
  static module(name: string): Btf {
    if (typeof name !== "string" || !/^\w+$/.test(name)) {
      throw new TypeError(`name: expected the name of a module, got ${describe(name)}`);
    }
    return Btf.parse(readKernelBtf(`${kernelBtfFolder}/${name}`), Btf.kernel());
  }

  /**
   * Parses raw BTF, such as the contents of `/sys/kernel/btf/vmlinux` or of the `.BTF` section of an object file.
   *
   * @param base BTF whose types come before these. The BTF of a module, in `/sys/kernel/btf/`, needs the kernel's as base.
   * @throws {RangeError} if the bytes are not little-endian BTF, are truncated or damaged, or have an unknown kind of type.
   */
  static parse(bytes: Uint8Array, base?: Btf): Btf {
    return new Btf(bytes, base);
  }

  /**
   * Reads BTF that is loaded in the kernel, by its id. The BTF of a map ({@link MapInfo}), of a program, of the kernel and of each
   * module has an id.
   *
   * @throws {BpfError} ENOENT if no BTF has this id.
   * @throws {BpfError} EPERM without CAP_SYS_ADMIN.
   * @throws {RangeError} if the id is not an integer from 1 to 2^32 - 1.
   *
   * @example
   * ```ts
   * import { Btf, HashMap, t } from "bun-bpf";
   * const value = t.struct({ pid: t.u32, comm: t.cstring(16) });
   * using map = new HashMap({ key: t.u32, value, maxEntries: 8 });
   * const { btfId, btfValueTypeId } = map.info();
   * console.log(Btf.fromId(btfId).members(btfValueTypeId).map(({ name }) => name)); // [ "pid", "comm" ]
   * ```
   *
   * Requires Linux 4.18.
   */
  static fromId(id: number): Btf {
    checkCount("id", id, 1, 0xffffffff);
    using descriptor = new Descriptor(openById("btf", id), `BTF ${id}`);
    const { bytes, name, isKernel } = readBtfObject(descriptor.fd, descriptor.what);
    if (!isKernel) return new Btf(bytes, undefined);
    if (name === "vmlinux") return (Btf.#kernel ??= new Btf(bytes, undefined));
    // The BTF of a module refers to the kernel's types.
    return new Btf(bytes, Btf.kernel());
  }

  /** @internal Formats the object for `console.log`. */
  [inspectCustom](...inspection: InspectArguments): string {
    return show("Btf", { length: this.length }, inspection);
  }

  /**
   * Decodes the bytes of a value to a JavaScript value:
   *
   * - integers of up to 4 bytes are numbers, longer ones are bigints, `bool` is a boolean, floating-point numbers are numbers. Types
   *   with the names `__be16`, `__be32` and `__be64` are decoded from network byte order;
   * - enum values are the names of their enumerators, or numbers that have no name;
   * - `struct in_addr` and `struct in6_addr` are addresses as strings: `"10.0.0.1"`, `"2001:db8::1"`;
   * - structs are objects with a property for each member; members of anonymous structs and unions are properties of the outer
   *   struct. Unions are objects with all their members. Sections (`datasec`) are objects with a property for each variable;
   * - bit-fields are decoded like integers and enums;
   * - arrays are arrays. An array of `char` with printable UTF-8 before a NUL is a string. A flexible array member has as many
   *   elements as the remaining bytes have room for;
   * - pointers are bigints, or hexadecimal strings with `{ pointers: "hex" }`.
   *
   * The members of a union are several values for the same bytes. To bound time and memory for types from untrusted programs, a type
   * may have at most 1024 values, plus 64 for each byte (4 for each byte beyond 17 KiB), and structs and arrays may be nested 32
   * deep.
   *
   * @param id id of the type
   * @param bytes bytes of the value, at least as many as the type takes
   * @throws {RangeError} if there are too few bytes, the type has no values (such as a function), too many values, or is nested too
   *   deep, or no type has this id.
   * @throws {TypeError} if `bytes` is not a Uint8Array, or an option is misspelt.
   *
   * @example
   * ```ts
   * import { Btf } from "bun-bpf";
   * const btf = Btf.kernel();
   * const id = btf.find("struct", "list_head");
   * const bytes = new Uint8Array(16).fill(255, 0, 8);
   * if (id === undefined) throw new Error("this kernel has no struct list_head");
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
      decoder = new Decoder(this, { pointers });
      this.#decoders.set(pointers, decoder);
    }
    return decoder.decode(id, bytes);
  }

  /**
   * Makes a `t` type with the layout and the values of a BTF type, for keys and values of maps and for events:
   *
   * - integers are `t.u8` to `t.i128`, and `bool` is `t.bool`. Types with the names `__be16`, `__be32` and `__be64` are `t.be16` to
   *   `t.be64`. Pointers are `t.u64`, floating-point numbers `t.f32` and `t.f64`, enums `t.enum`;
   * - arrays are `t.array`, and arrays of `char` are `t.cstring`;
   * - structs and unions are `t.struct` and `t.union`, and bit-fields `t.bits`, if those have the same layout, also with additional
   *   padding. Others are a custom type (`kind` is `"custom"`), such as structs with anonymous members, whose members become
   *   properties of the outer struct. Reading a union returns all members, and writing takes exactly one;
   * - `struct in_addr` and `struct in6_addr` are `t.ipv4` and `t.ipv6`;
   * - `struct bpf_spin_lock` and `struct bpf_timer` are `t.spinLock` and `t.timer`;
   * - flexible array members and empty structs are omitted.
   *
   * @param id id of the type
   * @throws {RangeError} if the type has no values (such as a function), takes no bytes, exceeds the limits of {@link Btf.decode},
   *   or no type has this id.
   *
   * @example
   * ```ts
   * import { Btf } from "bun-bpf";
   * const btf = Btf.kernel();
   * const id = btf.find("struct", "list_head");
   * if (id === undefined) throw new Error("this kernel has no struct list_head");
   * const list = btf.toType(id);
   * const view = new DataView(new ArrayBuffer(list.size));
   * list.write(view, 0, { next: 1n, prev: 2n });
   * console.log(list.read(view, 0)); // { next: 1n, prev: 2n }
   * ```
   */
  toType(id: number): Type<BtfValue> {
    this.#types ??= new TypeMaker(this);
    return this.#types.make(id);
  }

  /**
   * Returns the C declaration of a type, on one line. The members of the outermost struct and of anonymous types inside it are
   * included; other types appear by name. Functions are declared with their parameters.
   *
   * `...` replaces omitted text: a type inside itself (a pointer to itself is `... *`), types nested in more than 8 structs, and
   * everything after about 65,000 characters.
   *
   * @throws {RangeError} if no type has this id.
   *
   * @example
   * ```ts
   * import { Btf } from "bun-bpf";
   * const btf = Btf.kernel();
   * const id = btf.find("struct", "list_head");
   * if (id === undefined) throw new Error("this kernel has no struct list_head");
   * console.log(btf.declaration(id)); // struct list_head { struct list_head *next; struct list_head *prev; }
   * ```
   */
  declaration(id: number): string {
    return declaration(this, id);
  }
}

/** Reads a BTF by its id; `undefined` if this process may not read it, or it was freed. */
export function visibleBtf(id: number): Btf | undefined {
  try {
    return Btf.fromId(id);
  } catch (error) {
    if (error instanceof BpfError && (error.code === "EPERM" || error.code === "ENOENT")) {
      return undefined;
    }
    throw error;
  }
}

/** The folder with the BTF of the kernel and of loaded modules. */
const kernelBtfFolder = "/sys/kernel/btf";
const vmlinux = `${kernelBtfFolder}/vmlinux`;

/** Returns the names of the loaded modules that have BTF; none if /sys is not mounted. */
export function modulesWithBtf(): string[] {
  if (!existsSync(kernelBtfFolder)) return [];
  return readdirSync(kernelBtfFolder).filter((name) => name !== "vmlinux");
}

/**
 * Reads the running kernel's BTF, or the BTF of a module by its path. If the file can be mapped (Linux 6.16, only the
 * kernel's own), the result is a mapping of kernel memory, which must not be written. Otherwise it is a copy.
 *
 * @throws {BpfError} ENOENT if the kernel has no BTF, or /sys is not mounted.
 */
export function readKernelBtf(path: string = vmlinux): Uint8Array {
  try {
    const fd = openSync(path, "r");
    try {
      return mapWhole(fd) ?? readFileSync(fd);
    } finally {
      closeSync(fd);
    }
  } catch (error) {
    const errno = Math.abs((error as NodeJS.ErrnoException).errno ?? 0);
    throw new BpfError({
      errno,
      syscall: "open",
      doing: `read the kernel's type information at ${path}`,
      hint:
        explainNoDescriptor(errno) ??
        "It needs a kernel with CONFIG_DEBUG_INFO_BTF (5.4 or later) and /sys mounted",
    });
  }
}

function mapWhole(fd: number): Uint8Array | undefined {
  const { size } = fstatSync(fd);
  try {
    const what = "kernel's type information";
    const file = { fd, offset: 0, length: size, writable: false, isPrivate: true, what };
    // The memory is unmapped when its last view is garbage-collected.
    return new Uint8Array(MappedMemory.ofFile(file).buffer);
  } catch (error) {
    if (error instanceof BpfError) return undefined;
    throw error;
  }
}
