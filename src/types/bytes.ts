import { checkCount } from "./argument.ts";
import { defineType } from "./define.ts";
import { bytesOf, checkBounds } from "./memory.ts";
import { scalarRecipe } from "./recipe.ts";
import { refuseRange, refuseType } from "./refusal.ts";
import type { BytesType } from "./type.ts";

/** Up to this length, copying in a loop beats one call of `slice`. */
const SHORT = 16;

/**
 * `__u8[n]`: exactly `length` raw bytes, as a Uint8Array. Reading copies: the result is the caller's to
 * keep. Writing takes any Uint8Array (a Buffer, too) of that very length.
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
      read: length <= SHORT ? readShort : readLong,
      write(view, offset, value) {
        if (!(value instanceof Uint8Array) || value.length !== length) return false;
        checkBounds(view, offset, length);
        bytesOf(view).set(value, offset);
        return true;
      },
      refuse(value, path) {
        const expected = `a Uint8Array of ${length} bytes (${name})`;
        return value instanceof Uint8Array
          ? refuseRange(path, expected, value)
          : refuseType(path, expected, value);
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
