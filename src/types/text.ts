import { checkCount } from "../check/arguments.ts";
import { refuseRange, refuseType } from "../check/describe.ts";
import { defineType, scalarRecipe } from "./compile.ts";
import { bytesOf, checkBounds, zero } from "./memory.ts";
import type { BytesType, CStringType } from "./type.ts";

const lengthGetter = /*@__PURE__*/ Object.getOwnPropertyDescriptor(
  /*@__PURE__*/ Object.getPrototypeOf(Uint8Array.prototype),
  "length",
);

/** Returns the real length of a typed array, in bytes. A subclass can override the property `length`. */
function lengthOf(bytes: Uint8Array): number {
  return lengthGetter!.get!.call(bytes) as number;
}

/** Returns true for a Uint8Array, but not for another object with its prototype. */
function isBytes(value: unknown): value is Uint8Array {
  return value instanceof Uint8Array && ArrayBuffer.isView(value);
}

/** Greatest length in bytes for which copying in a loop is faster than calling `slice`. */
const SHORT_BYTES = 16;

/**
 * Makes the type of `length` raw bytes, C's `__u8[length]`. Values are Uint8Arrays.
 *
 * Reading returns a copy. Writing takes any Uint8Array (also a Buffer) of exactly `length` bytes.
 *
 * @param length number of bytes, from 1 to 2^31 - 1. Flexible array members (`__u8 data[]`) have no fixed size and are not
 *   supported.
 * @throws {RangeError} if the length is not an integer from 1 to 2^31 - 1.
 *
 * @example
 * ```ts
 * import { t } from "bun-bpf";
 *
 * const Digest = t.bytes(32);
 * const view = new DataView(new ArrayBuffer(Digest.size));
 * Digest.write(view, 0, new Uint8Array(32).fill(7));
 * console.log(Digest.read(view, 0).length); // 32
 * ```
 */
export function bytes(length: number): BytesType {
  checkCount("bytes(length)", length, 1);
  const name = `bytes(${length})`;
  return defineType<Uint8Array, BytesType>(
    { kind: "bytes", name, size: length, align: 1, length },
    scalarRecipe({
      read: length <= SHORT_BYTES ? readShort : readLong,
      write(view, offset, value) {
        if (!isBytes(value) || lengthOf(value) !== length) return false;
        checkBounds(view, offset, length);
        bytesOf(view).set(value, offset);
        return true;
      },
      refuse(value, path) {
        const expected = `a Uint8Array of ${length} bytes (${name})`;
        if (!isBytes(value)) return refuseType(path, expected, value);
        const real = lengthOf(value);
        refuseRange(path, expected, value, real === value.length ? "" : `it has ${real}`);
      },
    }),
  );

  function readShort(view: DataView, offset: number): Uint8Array {
    const copy = new Uint8Array(length);
    for (let i = 0; i < length; i++) copy[i] = view.getUint8(offset + i);
    return copy;
  }

  function readLong(view: DataView, offset: number): Uint8Array {
    checkBounds(view, offset, length);
    return bytesOf(view).slice(offset, offset + length);
  }
}

// These methods of Bun read and write a range of bytes. TextDecoder would need a typed array for each range.
const { latin1Slice, utf8Slice, utf8Write } = Buffer.prototype;

const ALL_ONES = 0x01010101;
const ALL_TOP_BITS = 0x80808080;

/**
 * Makes the type of a NUL-terminated string in `length` bytes, C's `char[length]`. Values are strings of
 * at most `length - 1` bytes of UTF-8.
 *
 * Reading stops at the first NUL, or after `length` bytes if there is none. Bytes that are not UTF-8 read
 * as U+FFFD. Writing fills the remaining bytes with NUL, so that equal strings are equal keys. It rejects
 * strings with a NUL or a lone surrogate.
 *
 * @param length number of bytes, the terminating NUL included, from 1 to 2^31 - 1
 * @throws {RangeError} if the length is not an integer from 1 to 2^31 - 1.
 *
 * @example
 * ```ts
 * import { t } from "bun-bpf";
 *
 * const Comm = t.cstring(16); // filled by bpf_get_current_comm()
 * const view = new DataView(new ArrayBuffer(Comm.size));
 * Comm.write(view, 0, "systemd");
 * console.log(Comm.read(view, 0)); // systemd
 * ```
 */
export function cstring(length: number): CStringType {
  checkCount("cstring(length)", length, 1);
  const name = `cstring(${length})`;
  return defineType<string, CStringType>(
    { kind: "cstring", name, size: length, align: 1, length },
    scalarRecipe({
      read: length === 16 ? readTaskName : (view, offset) => readString(view, offset, length),
      write: (view, offset, value) => writeString(view, offset, value, length),
      refuse: (value, path) => refuseString(value, path, length),
    }),
    // bpftool prints an array as a string if its element type is named "char". clang's "char" is signed.
    {
      encode: (types, { size }) => types.array(types.int("char", 1, { isSigned: true }), size),
    },
  );
}

function readString(view: DataView, offset: number, length: number): string {
  const limit = offset + length;
  checkBounds(view, offset, length);
  let end = offset;
  let seen = 0;
  for (; end + 4 <= limit; end += 4) {
    const word = view.getInt32(end, true);
    // The expression is nonzero if one of the four bytes is zero: Warren, "Hacker's Delight", section 6-1.
    if (((word - ALL_ONES) & ~word & ALL_TOP_BITS) !== 0) break;
    seen |= word;
  }
  for (; end < limit; end++) {
    const byte = view.getUint8(end);
    if (byte === 0) break;
    seen |= byte;
  }
  if (end === offset) return "";
  const slice = (seen & ALL_TOP_BITS) === 0 ? latin1Slice : utf8Slice;
  return slice.call(bytesOf(view), offset, end);
}

// Cache of decoded strings of 16 bytes. Most events have a task name (TASK_COMM_LEN is 16), and the names repeat.
// A hit is three times as fast as decoding and allocates nothing.
const RECENT = 256;
const recentWords = new Int32Array(RECENT * 4);
const recentNames = new Array<string>(RECENT).fill("");

function readTaskName(view: DataView, offset: number): string {
  const a = view.getInt32(offset, true);
  const b = view.getInt32(offset + 4, true);
  const c = view.getInt32(offset + 8, true);
  const d = view.getInt32(offset + 12, true);
  const mixed = Math.imul(a ^ Math.imul(b, 31) ^ Math.imul(c, 17) ^ d, 0x9e3779b1);
  const slot = mixed >>> 24;
  const words = slot * 4;
  if (
    recentWords[words] === a &&
    recentWords[words + 1] === b &&
    recentWords[words + 2] === c &&
    recentWords[words + 3] === d
  ) {
    return recentNames[slot]!;
  }
  const name = readString(view, offset, 16);
  // The words and the string must come from the same bytes: a kernel program may have written to the view's memory meanwhile.
  if (
    view.getInt32(offset, true) === a &&
    view.getInt32(offset + 4, true) === b &&
    view.getInt32(offset + 8, true) === c &&
    view.getInt32(offset + 12, true) === d
  ) {
    recentWords.set([a, b, c, d], words);
    recentNames[slot] = name;
  }
  return name;
}

/** Greatest length in code units for which storing in a loop is faster than calling Bun's encoder. */
const SHORT_TEXT = 48;

function writeString(view: DataView, offset: number, value: unknown, length: number): boolean {
  // Each UTF-16 code unit takes at least one byte of UTF-8.
  if (typeof value !== "string" || value.length >= length) return false;
  if (value.length <= SHORT_TEXT) {
    let i = 0;
    for (; i < value.length; i++) {
      const code = value.charCodeAt(i);
      if (code === 0) return false;
      if (code > 0x7f) break;
      view.setUint8(offset + i, code);
    }
    if (i === value.length) {
      zero(view, offset + i, length - i);
      return true;
    }
  }
  if (problemOf(value, length) !== undefined) return false;
  checkBounds(view, offset, length);
  const written = utf8Write.call(bytesOf(view), value, offset, length);
  zero(view, offset + written, length - written);
  return true;
}

/** Returns the reason why a string cannot be written, or `undefined` if it can. */
function problemOf(value: string, length: number): string | undefined {
  if (value.includes("\0")) return `the NUL at index ${value.indexOf("\0")} would end it`;
  if (!value.isWellFormed()) return "it has a lone surrogate";
  const needed = Buffer.byteLength(value);
  if (needed >= length) return `it takes ${needed} bytes`;
  return undefined;
}

function refuseString(value: unknown, path: string, length: number): never {
  const expected = `a string of at most ${length - 1} bytes of UTF-8 (cstring(${length}))`;
  if (typeof value !== "string") return refuseType(path, expected, value);
  return refuseRange(path, expected, value, problemOf(value, length));
}
