import { checkAlign, checkCount } from "../check/arguments.ts";
import { describe } from "../check/describe.ts";

/**
 * A C layout paired with the JavaScript value it decodes to.
 *
 * `Outside` is the value in this process, `Inside` the value in kernel code: the same for numbers, while
 * a spin lock has no value outside. `Type<Outside>` accepts any value inside.
 *
 * Every type is immutable plain data with two methods, which may be taken off the object and called
 * alone (they do not use `this`), although `type.read(view, offset)` is the fastest way to call them:
 * the method compiles itself at its first call and is then replaced by the compiled function.
 *
 * `size` and `align` are in bytes; `size` includes tail padding, so that arrays are packed at `size`.
 *
 * @example
 * ```ts
 * import { t } from "bun-bpf";
 *
 * const view = new DataView(new ArrayBuffer(t.u32.size));
 * t.u32.write(view, 0, 4026531840);
 * console.log(t.u32.read(view, 0)); // 4026531840
 * ```
 */
export interface Type<Outside, Inside = unknown> {
  /** Which family the type belongs to: `"u32"`, `"struct"`, `"array"`, ... */
  readonly kind: string;
  /** A readable description: `"u32"`, `"bytes(16)"`, `"struct { pid: u32, ts: u64 }"`. */
  readonly name: string;
  /** What C's `sizeof` gives, in bytes, tail padding included. */
  readonly size: number;
  /** What C's `_Alignof` gives, in bytes: a power of two. */
  readonly align: number;
  /**
   * Decodes the value at `offset` bytes into the view. The result never aliases the view's memory.
   *
   * @throws {RangeError} when the bytes lie outside the view (from DataView itself)
   * @throws {TypeError} when the view's buffer is detached (from DataView itself)
   */
  read(view: DataView, offset: number): Outside;
  /**
   * Encodes the value at `offset` bytes into the view. All `size` bytes are written, padding as zero.
   * A value that is refused may have been written in part.
   *
   * @throws {TypeError} when the value, or a part of it, has the wrong JavaScript type, or a struct
   * lacks a field or has one too many; the message names the field
   * @throws {RangeError} when a number is out of range, a length is wrong, a text does not parse, or
   * the bytes lie outside the view
   */
  write(view: DataView, offset: number, value: Outside): void;
  /** Carries `Inside` for the type checker; no type has this property at run time. */
  readonly [inside]?: Inside;
}

declare const inside: unique symbol;

/**
 * The JavaScript type that a layout decodes to.
 *
 * @example
 * ```ts
 * import { t } from "bun-bpf";
 *
 * const Event = t.struct({ pid: t.u32, ts: t.u64 });
 * type Event = t.Infer<typeof Event>; // { pid: number; ts: bigint }
 * const event: Event = { pid: 1, ts: 0n };
 * console.log(event.pid);
 * ```
 */
export type Infer<X> = X extends Type<infer Outside> ? Outside : never;

/**
 * The type of a layout's value in kernel code.
 *
 * @example
 * ```ts
 * import { t } from "bun-bpf";
 *
 * const Account = t.struct({ lock: t.spinLock, packets: t.u64 });
 * type Account = t.Inside<typeof Account>; // { lock: KernelField<"spin_lock">; packets: bigint }
 * const packets: Account["packets"] = 1n;
 * console.log(packets);
 * ```
 */
export type Inside<X> = X extends Type<unknown, infer I> ? I : never;

/** The kinds of integer that {@link IntegerType} covers. */
export type IntegerKind =
  | "u8"
  | "u16"
  | "u32"
  | "u64"
  | "u64Number"
  | "i8"
  | "i16"
  | "i32"
  | "i64"
  | "i64Number"
  | "be16"
  | "be32"
  | "be64"
  | "u128"
  | "i128";

/**
 * An integer of 1, 2, 4, 8 or 16 bytes.
 *
 * @example
 * ```ts
 * import { t } from "bun-bpf";
 *
 * console.log(t.i16.min, t.i16.max, t.be16.byteOrder); // -32768 32767 "big"
 * ```
 */
export interface IntegerType<T extends number | bigint> extends Type<T, T> {
  readonly kind: IntegerKind;
  /** Whether the type has negative values. */
  readonly signed: boolean;
  /** The smallest value that can be written. */
  readonly min: T;
  /** The largest value that can be written. */
  readonly max: T;
  /** `"native"` is the machine's own order; `"big"` is the network's. */
  readonly byteOrder: "native" | "big";
}

/** A fixed number of raw bytes: what {@link bytes} makes. */
export interface BytesType extends Type<Uint8Array, Uint8Array> {
  readonly kind: "bytes";
  /** How many bytes: the same as `size`. */
  readonly length: number;
}

/** A NUL-terminated string in a fixed number of bytes: what {@link cstring} makes. */
export interface CStringType extends Type<string, string> {
  readonly kind: "cstring";
  /** How many bytes, the terminating NUL included: the same as `size`. */
  readonly length: number;
}

/** A C array of fixed length: what {@link array} makes. */
export interface ArrayType<Outside, In = unknown> extends Type<Outside[], In[]> {
  readonly kind: "array";
  /** The type of one element; elements lie `element.size` bytes apart. */
  readonly element: Type<Outside, In>;
  /** How many elements. */
  readonly length: number;
}

/** A C enum, as {@link enum} makes it: an integer with names for some of its values. */
export interface EnumType<Name extends string, N extends number | bigint> extends Type<
  Name | N,
  N
> {
  readonly kind: "enum";
  /** The value of each name. */
  readonly values: { readonly [K in Name]: N };
  /** The integer type that stores the values. */
  readonly base: IntegerType<N>;
}

/** A bit-field, as {@link bits} makes it. */
export interface BitsType<Outside, In = unknown> extends Type<Outside, In> {
  readonly kind: "bits";
  /** The declared type. It decides the sign, the alignment, and where the next unit begins. */
  readonly base: Type<Outside, In>;
  /** The number of bits. */
  readonly width: number;
}

/**
 * A zero-width bit-field, as {@link bits} makes it: it ends a unit of bit-fields. It takes no room and is not part of the value.
 */
export interface BitsEnd extends BitsType<never, never> {
  readonly width: 0;
}

/** The fields that belong to the kernel. */
export type OpaqueKind = "spin_lock" | "timer";

/** A field that belongs to the kernel, as kernel code sees it. */
export interface KernelField<Kind extends OpaqueKind> {
  readonly kind: Kind;
}

/**
 * A field that belongs to the kernel: what {@link spinLock} and {@link timer} are. It has a place in a
 * struct, but no JavaScript value: by itself it can be neither read nor written.
 */
export interface OpaqueType<Kind extends OpaqueKind = OpaqueKind> extends Type<
  never,
  KernelField<Kind>
> {
  readonly kind: Kind;
  /** Tells it from types that have values. */
  readonly opaque: true;
}

/** The members of a struct, in the order in which they lie in memory. */
export type Fields = Readonly<Record<string, Type<unknown>>>;

/**
 * The JavaScript object that a struct with these members decodes to, without those that are the
 * kernel's own. (The `& {}` makes editors show its properties rather than this name.)
 */
export type StructValue<F extends Fields> = {
  [K in keyof F as F[K] extends OpaqueType | BitsEnd ? never : K]: Infer<F[K]>;
} & {};

/** The object that kernel code sees for a struct with these members: all of them, the kernel's own included. */
export type StructInside<F extends Fields> = {
  [K in keyof F as F[K] extends BitsEnd ? never : K]: Inside<F[K]>;
} & {};

/** The place of a member of a struct or union. */
export interface FieldPlace<T extends Type<unknown>> {
  readonly type: T;
  /** The offset of its first byte. */
  readonly offset: number;
  /** The offset in bits, for a bit-field. */
  readonly bitOffset?: number;
}

/**
 * The JavaScript object of a union: it has at least one of the members. Reading gives all of them, as any can be the valid one.
 * Writing takes exactly one.
 */
export type UnionValue<F extends Fields> = {
  [K in keyof F]: { [N in K]: Infer<F[N]> } & { [N in Exclude<keyof F, K>]?: Infer<F[N]> };
}[keyof F];

/** A C union, as {@link union} makes it. */
export interface UnionType<F extends Fields> extends Type<UnionValue<F>, StructInside<F>> {
  readonly kind: "union";
  /** Each member's type; all lie at offset 0. */
  readonly fields: { readonly [K in keyof F]: FieldPlace<F[K]> };
}

/** A C struct: what {@link struct} makes. */
export interface StructType<F extends Fields> extends Type<StructValue<F>, StructInside<F>> {
  readonly kind: "struct";
  /** Each member's type, and its offset in bytes from the start of the struct, in memory order. */
  readonly fields: { readonly [K in keyof F]: FieldPlace<F[K]> };
  /** Whether the struct was declared without padding. */
  readonly packed: boolean;
  /**
   * Makes an object that reads structs in place, one after another, without making an object for each:
   * see {@link StructCursor}. The first call compiles it; later cursors of the type share the code.
   *
   * @example
   * ```ts
   * import { t } from "bun-bpf";
   *
   * const Event = t.struct({ pid: t.u32, ts: t.u64Number });
   * const view = new DataView(new ArrayBuffer(2 * Event.size));
   * Event.write(view, 0, { pid: 1, ts: 5 });
   * Event.write(view, Event.size, { pid: 2, ts: 6 });
   *
   * const cursor = Event.cursor();
   * for (let offset = 0; offset < view.byteLength; offset += Event.size) {
   *   cursor.moveTo(view, offset);
   *   console.log(cursor.event.pid, cursor.event.ts);
   * }
   * cursor.release();
   * ```
   */
  cursor(): StructCursor<StructValue<F>>;
  /**
   * Copies an event: a plain object that stays as it is when the cursor moves on. Structs within it are
   * copied as well, which `{ ...event }` does not do. A plain object with these fields may be given,
   * too: its structs are copied, and what else is in it is taken over as it is.
   *
   * @throws {Error} when the event was released
   * @throws {TypeError} when the argument is not an object, or a field is missing
   *
   * @example
   * ```ts
   * import { t } from "bun-bpf";
   *
   * const Event = t.struct({ pid: t.u32, to: t.struct({ host: t.ipv4, port: t.be16 }) });
   * const view = new DataView(new ArrayBuffer(Event.size));
   * Event.write(view, 0, { pid: 1, to: { host: "192.0.2.1", port: 443 } });
   *
   * const cursor = Event.cursor();
   * cursor.moveTo(view, 0);
   * const kept = Event.copy(cursor.event);
   * cursor.release();
   * console.log(kept.to); // { host: "192.0.2.1", port: 443 }
   * ```
   */
  copy(event: Readonly<StructValue<F>>): StructValue<F>;
}

/**
 * One object that stands for one struct after another: what {@link StructType.cursor} makes.
 *
 * `event` reads from the bytes at the cursor's place whenever a field is asked for, and is valid until
 * the cursor moves or is released; {@link StructType.copy} keeps its values. Its fields are those of the
 * struct, all but the kernel's own. A field that is a struct is an event of the same kind, over the same
 * bytes; of any other type the value is what `read` gives, and the caller's to keep. Reading numbers
 * leaves no garbage.
 *
 * @example
 * ```ts
 * import { t } from "bun-bpf";
 *
 * const Event = t.struct({ pid: t.u32, ts: t.u64Number });
 * const cursor = Event.cursor();
 * const { event } = cursor;
 *
 * const view = new DataView(new ArrayBuffer(Event.size));
 * Event.write(view, 0, { pid: 7, ts: 5 });
 * cursor.moveTo(view, 0);
 * console.log(event.pid, { ...event }); // 7 { pid: 7, ts: 5 }
 * cursor.release();
 * console.log(event); // [this event was released: its bytes belong to another one by now; copy what is needed (type.copy(event)) while it is valid]
 * ```
 */
export interface StructCursor<T> {
  /**
   * The struct at the cursor's place: always the same object. It cannot be written to.
   *
   * Its fields throw an Error before the first {@link moveTo} and after {@link release}, a RangeError
   * (from DataView) when the bytes lie outside the view, and a TypeError (from DataView) when the
   * view's buffer is detached.
   */
  readonly event: Readonly<T>;
  /**
   * Makes `event` the struct at `offset` bytes into the view. Nothing is checked or read yet: that the
   * view holds the whole struct is for the caller to see to.
   */
  moveTo(view: DataView, offset: number): void;
  /** Makes every field of `event` throw until the next {@link moveTo}, and lets go of the view. */
  release(): void;
}

/** Size and alignment of a type in bytes. */
export interface Extent {
  readonly size: number;
  readonly align: number;
}

/**
 * Checks that an argument is a type. Returns its size and alignment, which the caller keeps: memory is laid out by them, and a
 * custom type may give others later.
 *
 * @throws {TypeError} when it is not a type
 * @throws {RangeError} when no C type has such a size or alignment
 */
export function checkType(what: string, type: Type<unknown>): Extent {
  if (
    typeof type !== "object" ||
    type === null ||
    typeof type.read !== "function" ||
    typeof type.write !== "function"
  ) {
    const hint =
      typeof type === "function" ? ": was it meant to be called, as in t.bytes(16)?" : "";
    throw new TypeError(`${what}: expected a type such as t.u32, got ${describe(type)}${hint}`);
  }
  const { size, align } = type;
  checkCount(`${what}: size`, size, 1);
  checkAlign(`${what}: align`, align);
  return { size, align };
}

/**
 * Returns a type with a fixed size. It is the same type where its size cannot change, as for all types of `t`; otherwise a copy
 * that calls its `read` and `write`.
 */
export function withFixedSize<T>(type: Type<T>): Type<T> {
  const size = Object.getOwnPropertyDescriptor(type, "size");
  if (size?.writable === false && size.configurable === false) return type;
  return Object.freeze({
    ...type,
    kind: type.kind,
    name: type.name,
    ...checkType(type.name, type),
    read: (view: DataView, offset: number) => type.read(view, offset),
    write: (view: DataView, offset: number, value: T) => type.write(view, offset, value),
  });
}
