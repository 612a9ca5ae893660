import { checkAlign, checkCount } from "../check/arguments.ts";
import { describe } from "../check/describe.ts";

/**
 * A C layout and the JavaScript value that it decodes to.
 *
 * `Outside` is the type of the value in this process. `Inside` is its type in kernel code. Both are the
 * same for numbers; a spin lock has no value in this process. `Type<Outside>` accepts any `Inside`.
 *
 * A type is immutable plain data with two methods, `read` and `write`. They do not use `this`, so they
 * may be taken off the object and called alone. Calling `type.read(view, offset)` is faster: a method
 * compiles on its first call, and the compiled function then replaces it.
 *
 * `size` and `align` are in bytes. `size` includes tail padding, so the elements of an array are `size`
 * bytes apart.
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
  /** Keyword of the type's family: `"u32"`, `"struct"`, `"array"` and so on. */
  readonly kind: string;
  /** Description of the type for messages: `"u32"`, `"bytes(16)"`, `"struct { pid: u32, ts: u64 }"`. */
  readonly name: string;
  /** Size in bytes, tail padding included: C's `sizeof`. */
  readonly size: number;
  /** Alignment in bytes, a power of two: C's `_Alignof`. */
  readonly align: number;
  /**
   * Decodes the value that begins `offset` bytes into the view. The result is a copy: it does not change
   * with the view's memory.
   *
   * @throws {RangeError} if the bytes lie outside the view (thrown by DataView).
   * @throws {TypeError} if the view's buffer is detached (thrown by DataView).
   */
  read(view: DataView, offset: number): Outside;
  /**
   * Encodes a value, beginning `offset` bytes into the view. All `size` bytes are written, padding as
   * zero. If it throws, a part of the value may have been written.
   *
   * @throws {TypeError} if the value, or a part of it, has the wrong JavaScript type, or an object for a
   * struct lacks a field or has an unknown one; the message names the field.
   * @throws {RangeError} if a number is out of range, a length is wrong, a string does not parse, or
   * the bytes lie outside the view.
   */
  write(view: DataView, offset: number, value: Outside): void;
  /** Marker of `Inside` for the type checker. It does not exist at run time. */
  readonly [inside]?: Inside;
}

declare const inside: unique symbol;

/**
 * JavaScript type of the values of a `t` type.
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
 * TypeScript type that the values of a `t` type have in kernel code.
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

/** Keywords of the integer types: the possible values of `kind` of an {@link IntegerType}. */
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
 * Type of an integer of 1, 2, 4, 8 or 16 bytes.
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
  /** True if the type has negative values. */
  readonly signed: boolean;
  /** Smallest value that can be written. */
  readonly min: T;
  /** Largest value that can be written. */
  readonly max: T;
  /** Byte order in memory: `"native"` is the machine's own, `"big"` is network byte order. */
  readonly byteOrder: "native" | "big";
}

/** Bytes in kernel code: they are copied to other places, and have no parts. */
export interface KernelBytes {
  /** Number of bytes. */
  readonly byteLength: number;
}

/** Type of a fixed number of raw bytes, made by {@link bytes}. */
export interface BytesType extends Type<Uint8Array, KernelBytes> {
  readonly kind: "bytes";
  /** Number of bytes, the same as `size`. */
  readonly length: number;
}

/** Type of a NUL-terminated string in a fixed number of bytes, made by {@link cstring}. */
export interface CStringType extends Type<string, string> {
  readonly kind: "cstring";
  /** Number of bytes, the terminating NUL included; the same as `size`. */
  readonly length: number;
}

/** Type of a C array of fixed length, made by {@link array}. */
export interface ArrayType<Outside, In = unknown> extends Type<Outside[], In[]> {
  readonly kind: "array";
  /** Type of one element. Elements are `element.size` bytes apart. */
  readonly element: Type<Outside, In>;
  /** Number of elements. */
  readonly length: number;
}

/** Type of a C enum, made by {@link enum}: an integer with names for some of its values. */
export interface EnumType<Name extends string, N extends number | bigint> extends Type<
  Name | N,
  N
> {
  readonly kind: "enum";
  /** Value of each name. */
  readonly values: { readonly [K in Name]: N };
  /** Integer type that stores the values. */
  readonly base: IntegerType<N>;
}

/** Type of a bit-field, made by {@link bits}. */
export interface BitsType<Outside, In = unknown> extends Type<Outside, In> {
  readonly kind: "bits";
  /** Declared type. It decides the sign, the alignment, and the boundaries that the bit-field does not cross. */
  readonly base: Type<Outside, In>;
  /** Number of bits. */
  readonly width: number;
}

/**
 * Type of a zero-width bit-field, made by {@link bits} with width 0. The bit-field after it begins at the next boundary of the
 * declared type. It takes no bytes and is not part of the struct's value.
 */
export interface BitsEnd extends BitsType<never, never> {
  /** Number of bits: always 0. */
  readonly width: 0;
}

/** Keywords of the types that only the kernel reads and writes. */
export type OpaqueKind = "spin_lock" | "timer";

/** Value of an {@link OpaqueType} in kernel code. */
export interface KernelField<Kind extends OpaqueKind> {
  /** The kind of field: `"spin_lock"` or `"timer"`. */
  readonly kind: Kind;
}

/**
 * Type of a field that only the kernel reads and writes, such as {@link spinLock} and {@link timer}. It
 * takes bytes in a struct but has no JavaScript value: its `read` and `write` throw.
 */
export interface OpaqueType<Kind extends OpaqueKind = OpaqueKind> extends Type<
  never,
  KernelField<Kind>
> {
  readonly kind: Kind;
  /** Distinguishes opaque types from types that have values: always true. */
  readonly opaque: true;
}

/** Types of the members of a struct or union, by name. Those of a struct are in memory order. */
export type Fields = Readonly<Record<string, Type<unknown>>>;

// `& {}` makes editors show the properties rather than the name of the type.
/** JavaScript object that a struct with these members decodes to, without its opaque members. */
export type StructValue<F extends Fields> = {
  [K in keyof F as F[K] extends OpaqueType | BitsEnd ? never : K]: Infer<F[K]>;
} & {};

/** Object that kernel code sees for a struct with these members, its opaque members included. */
export type StructInside<F extends Fields> = {
  [K in keyof F as F[K] extends BitsEnd ? never : K]: Inside<F[K]>;
} & {};

/** Type and offset of a member of a struct or union. */
export interface FieldPlace<T extends Type<unknown>> {
  /** Type of the member. */
  readonly type: T;
  /** Offset of the member's first byte, in bytes from the start of the struct. */
  readonly offset: number;
  /** Offset in bits from the start of the struct; only for bit-fields. */
  readonly bitOffset?: number;
}

/**
 * JavaScript object that a union with these members decodes to. It has at least one member. Reading returns all members, because
 * any can be the valid one; writing takes exactly one.
 */
export type UnionValue<F extends Fields> = {
  [K in keyof F]: { [N in K]: Infer<F[N]> } & { [N in Exclude<keyof F, K>]?: Infer<F[N]> };
}[keyof F];

/** Type of a C union, made by {@link union}. */
export interface UnionType<F extends Fields> extends Type<UnionValue<F>, StructInside<F>> {
  readonly kind: "union";
  /** Type of each member by name. All members are at offset 0. */
  readonly fields: { readonly [K in keyof F]: FieldPlace<F[K]> };
}

/** Type of a C struct, made by {@link struct}. */
export interface StructType<F extends Fields> extends Type<StructValue<F>, StructInside<F>> {
  readonly kind: "struct";
  /** Type and offset of each member by name, in memory order. */
  readonly fields: { readonly [K in keyof F]: FieldPlace<F[K]> };
  /** True if the struct was declared with `{ packed: true }`. */
  readonly packed: boolean;
  /**
   * Creates a cursor: one object that reads many structs in place, without making an object for each. See
   * {@link StructCursor}. The first call for a type compiles the cursor's code; later cursors share it.
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
   * Copies a cursor's event to a plain object, which does not change when the cursor moves. Nested structs
   * are copied too, unlike with `{ ...event }`.
   *
   * The argument may also be a plain object with the fields of the struct. Its nested structs are copied;
   * other values are shared.
   *
   * @throws {Error} if the event was released.
   * @throws {TypeError} if the argument is not an object, or a field is missing.
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
 * Reader of one struct after another through a single object, made by {@link StructType.cursor}.
 *
 * Each access to a field of `event` reads the bytes at the cursor's position. The event is valid until the
 * cursor moves or is released; {@link StructType.copy} makes a lasting copy. Its fields are those of the
 * struct, without opaque ones. A field that is a struct is an event over the same bytes. A field of another
 * type is a value that the caller may keep, as returned by `read`. Reading numbers allocates nothing.
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
 * console.log(event); // [this event was released: its bytes may belong to another event; copy it with type.copy(event) while it is valid]
 * ```
 */
export interface StructCursor<T> {
  /**
   * Struct at the cursor's position: always the same object, and read-only.
   *
   * Reading a field throws an Error before the first {@link moveTo} and after {@link release}, a
   * RangeError if the bytes lie outside the view, and a TypeError if the view's buffer is detached.
   */
  readonly event: Readonly<T>;
  /**
   * Moves the cursor to the struct that begins `offset` bytes into the view. Nothing is checked or read:
   * the caller makes sure that the view contains the whole struct.
   */
  moveTo(view: DataView, offset: number): void;
  /** Makes every field of `event` throw until the next {@link moveTo}, and drops the reference to the view. */
  release(): void;
}

/** Size and alignment of a type in bytes. */
export interface Extent {
  readonly size: number;
  readonly align: number;
}

/** Returns true for a type: one of `t`, or an object that reads and writes values as they do. */
export function isType(value: unknown): value is Type<unknown> {
  if (typeof value !== "object" || value === null) return false;
  const { read, write } = value as Partial<Type<unknown>>;
  return typeof read === "function" && typeof write === "function";
}

/**
 * Checks that an argument is a type, and returns its size and alignment. Callers lay out memory by the returned numbers, because
 * the properties of a type that was not made by `t` can change later.
 *
 * @throws {TypeError} if it is not a type.
 * @throws {RangeError} if the size is not an integer from 1 to 2^31 - 1, or the alignment not a power of two.
 */
export function checkType(what: string, type: Type<unknown>): Extent {
  if (!isType(type)) {
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
 * Returns a type whose size cannot change: the type itself if it is one of `t`, otherwise a frozen copy that calls its `read` and
 * `write`.
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
