import { closeSync, fstatSync, openSync, readFileSync } from "../ffi/files.ts";
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
 * Type information in the BPF Type Format. The kernel describes its structs, functions and tracepoints in it, and programs
 * and maps describe their own types.
 *
 * Reading is lazy: parsing finds the start of each type, and a type is decoded when it is asked for. The running kernel's
 * BTF is mapped instead of copied where the kernel allows it (6.16).
 *
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
export class Btf extends BtfGraph {
  static #kernel: Btf | undefined;

  readonly #decoders = new Map<BtfDecodeOptions["pointers"], Decoder>();
  #types: TypeMaker | undefined;

  private constructor(bytes: Uint8Array, base: Btf | undefined) {
    super(bytes, base);
  }

  /**
   * The running kernel's own BTF, read once and kept.
   *
   * @throws {BpfError} `ENOENT` if the kernel has none (`CONFIG_DEBUG_INFO_BTF` is off, or before 5.4)
   */
  static kernel(): Btf {
    Btf.#kernel ??= Btf.parse(readKernelBtf());
    return Btf.#kernel;
  }

  /**
   * Reads the raw form, as in `/sys/kernel/btf/vmlinux` or the `.BTF` section of an object file.
   *
   * @param base whose types come before these: that of the kernel, for `/sys/kernel/btf/` and the name of a module
   * @throws {RangeError} if the bytes are not BTF of this machine's byte order
   */
  static parse(bytes: Uint8Array, base?: Btf): Btf {
    return new Btf(bytes, base);
  }

  /**
   * Reads a BTF that the kernel has, by its id: of a map ({@link MapInfo}), a program, the kernel itself or a module.
   *
   * Kernel 4.18, CAP_SYS_ADMIN.
   *
   * @throws {BpfError} `ENOENT` if there is no such BTF, `EPERM` without CAP_SYS_ADMIN
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
    if (!isKernel) return new Btf(bytes, undefined);
    if (name === "vmlinux") return (Btf.#kernel ??= new Btf(bytes, undefined));
    // Those of modules refer to the kernel's types; all others are whole by themselves.
    return new Btf(bytes, Btf.kernel());
  }

  /** @internal Shows its data in `console.log`. */
  [inspectCustom](...inspection: InspectArguments): string {
    return show("Btf", { length: this.length }, inspection);
  }

  /**
   * Makes a value of JavaScript of the bytes of a type:
   *
   * - integers of up to 4 bytes are numbers, longer ones bigints, `bool` a boolean; floating-point ones numbers. Those with the
   *   kernel's names `__be16`, `__be32` and `__be64` are in network byte order;
   * - the value of an enum is the name of its enumerator, or the number where none has it;
   * - `struct in_addr` and `struct in6_addr` are addresses as texts: `"10.0.0.1"`, `"2001:db8::1"`;
   * - structs are objects by the names of their members, those of anonymous structs and unions among them; unions are
   *   objects of all their members; sections are objects by the names of their variables; bit-fields are as integers and
   *   enums;
   * - arrays are arrays; an array of `char` that holds text up to a NUL is that text. An array without a length, at the
   *   end of a struct, has as many elements as there are bytes for;
   * - pointers are bigints, or hexadecimal with `{ pointers: "hex" }`.
   *
   * A union yields several values for the same bytes. A type may yield at most 64 values for each byte (4 beyond 17 KiB) and 1024
   * more, so that types that others have loaded cannot exhaust time or memory. Structs and arrays may be nested 32 deep.
   *
   * @param bytes as many as the type takes, or more
   * @throws {RangeError} if there are fewer, the type has no values (such as a function), yields too many or is nested too deep,
   *   or there is no such type
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
      decoder = new Decoder(this, { pointers });
      this.#decoders.set(pointers, decoder);
    }
    return decoder.decode(id, bytes);
  }

  /**
   * Makes the `t` type that has the size, alignment and values of a type: for keys and values of maps, and for events.
   *
   * - integers are `t.u8` to `t.i128`, those with the kernel's names `__be16`, `__be32` and `__be64` `t.be16` to `t.be64`, `bool` is
   *   `t.bool`, pointers are `t.u64`, floating-point numbers `t.f32` and `t.f64`, enums `t.enum`;
   * - arrays are `t.array`, those of `char` `t.cstring`;
   * - structs and unions are `t.struct` and `t.union`, and bit-fields `t.bits`, where their layout is the same. Structs with more
   *   padding are structs as well. All others are a custom type (`kind` is `"custom"`), for example those with anonymous structs
   *   and unions, whose members are merged into them. Reading a union gives all its members, and writing takes exactly one;
   * - `struct in_addr` and `struct in6_addr` are `t.ipv4` and `t.ipv6`;
   * - `struct bpf_spin_lock` and `struct bpf_timer` are `t.spinLock` and `t.timer`; flexible arrays and empty structs at
   *   the end of a struct are left out.
   *
   * @throws {RangeError} if the type has no values (such as a function) or takes no bytes, makes more values or is deeper than
   *   {@link Btf.decode} takes, or there is no such type
   *
   * @example
   * ```ts
   * import { Btf } from "bun-bpf";
   * const btf = Btf.kernel();
   * const id = btf.find("struct", "list_head");
   * if (id === undefined) throw new Error("this kernel has no lists");
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
   * The type as C declares it, on one line. The outermost struct is written out, with the anonymous structs and enums
   * inside it. Types with a name appear as their name. Functions are declared with their parameters.
   *
   * `...` stands for an omitted part: a type inside itself (a pointer to itself is `... *`), a type more than 8 structs deep,
   * and the rest after about 65,000 characters.
   *
   * @throws {RangeError} if there is no such type
   *
   * @example
   * ```ts
   * import { Btf } from "bun-bpf";
   * const btf = Btf.kernel();
   * const id = btf.find("struct", "list_head");
   * if (id === undefined) throw new Error("this kernel has no lists");
   * console.log(btf.declaration(id)); // struct list_head { struct list_head *next; struct list_head *prev; }
   * ```
   */
  declaration(id: number): string {
    return declaration(this, id);
  }
}

const vmlinux = "/sys/kernel/btf/vmlinux";

/**
 * The running kernel's BTF, or that of a module at its path: in memory of the kernel's own, which must not be written to,
 * where that can be mapped (kernel 6.16, not of modules), or else in a copy.
 *
 * @throws {BpfError} `ENOENT` where the kernel has none or /sys is not mounted
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
    // Unmapped when the last view of it was collected.
    return new Uint8Array(MappedMemory.ofFile(file).buffer);
  } catch (error) {
    if (error instanceof BpfError) return undefined;
    throw error;
  }
}
