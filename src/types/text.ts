import { checkCount } from "../check/arguments.ts";
import { refuseRange, refuseType } from "../check/describe.ts";
import { defineType, scalarRecipe } from "./compile.ts";
import { bytesOf, checkBounds, zero } from "./memory.ts";
import type { BytesType, CStringType } from "./type.ts";

const lengthGetter = /*@__PURE__*/ Object.getOwnPropertyDescriptor(
  /*@__PURE__*/ Object.getPrototypeOf(Uint8Array.prototype),
  "length",
);

/** Returns the engine's own length of a typed array: memory is written by it, and a subclass can override the property. */
function lengthOf(bytes: Uint8Array): number {
  return lengthGetter!.get!.call(bytes) as number;
}

/** Returns true for typed arrays only, not for other objects with their prototype. */
function isBytes(value: unknown): value is Uint8Array {
  return value instanceof Uint8Array && ArrayBuffer.isView(value);
}

/** Up to this length, copying in a loop beats one call of `slice`. */
const SHORT_BYTES = 16;

/**
 * `__u8[n]`: exactly `length` raw bytes, as a Uint8Array. Reading copies: the result is the caller's to
 * keep. Writing takes any Uint8Array (also a Buffer) of exactly that many bytes. A `length` that a subclass overrides is ignored.
 *
 * @param length from 1 on; C's flexible array members have no fixed size and so no type here
 * @throws {RangeError} when the length is not an integer from 1 to 2^31 - 1
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

// Bun's decoders of a range of bytes: unlike TextDecoder, they need no view of the range.
const { latin1Slice, utf8Slice, utf8Write } = Buffer.prototype;

const ALL_ONES = 0x01010101;
const ALL_TOP_BITS = 0x80808080;

/**
 * `char[n]`: a string of at most `length - 1` bytes of UTF-8, ended by NUL. Reading stops at the first
 * NUL, or at the end when there is none, as in a string that the kernel cut; what is not UTF-8 reads as
 * U+FFFD. Writing fills the rest with NUL, so that equal strings are equal keys.
 *
 * @param length in bytes, the ending NUL included, from 1 on
 * @throws {RangeError} when the length is not an integer from 1 to 2^31 - 1
 *
 * @example
 * ```ts
 * import { t } from "bun-bpf";
 *
 * const Comm = t.cstring(16); // what bpf_get_current_comm() fills
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
    // bpftool shows an array as text if its elements are called "char"; clang, too, makes them signed.
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
    // Not zero when one of the four bytes is: see Warren, "Hacker's Delight", section 6-1.
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

// Names of tasks take 16 bytes, are in most events, and repeat: what the bytes last decoded to is kept.
// This makes reading one three times as fast, and leaves no garbage.
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
  // What the view lies over may have changed since the words were read: a producer may be at work.
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

/** Up to this length, storing in a loop beats one call of Bun's encoder. */
const SHORT_TEXT = 48;

function writeString(view: DataView, offset: number, value: unknown, length: number): boolean {
  // A string of UTF-16 never takes fewer bytes than it has code units.
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

/** Why a string cannot be written, if it cannot. */
function problemOf(value: string, length: number): string | undefined {
  if (value.includes("\0")) return `a NUL at index ${value.indexOf("\0")} would cut it`;
  if (!value.isWellFormed()) return "a lone surrogate has no UTF-8";
  const needed = Buffer.byteLength(value);
  if (needed >= length) return `it takes ${needed} bytes`;
  return undefined;
}

function refuseString(value: unknown, path: string, length: number): never {
  const expected = `a string of at most ${length - 1} bytes of UTF-8 (cstring(${length}))`;
  if (typeof value !== "string") return refuseType(path, expected, value);
  return refuseRange(path, expected, value, problemOf(value, length));
}
