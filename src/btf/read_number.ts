/** @module Integers in the bytes of a little-endian machine, of the sizes and at the bits that C has. */

/** Reads an integer: a number up to 4 bytes, a bigint beyond. */
type NumberReader = (view: DataView, at: number) => number | bigint;

/** Reads an integer of so many bytes; `undefined` for a size that C has no integers of. */
export function readNumber(size: number, isSigned: boolean): NumberReader | undefined {
  switch (size) {
    case 1:
      return isSigned ? (view, at) => view.getInt8(at) : (view, at) => view.getUint8(at);
    case 2:
      return isSigned
        ? (view, at) => view.getInt16(at, true)
        : (view, at) => view.getUint16(at, true);
    case 4:
      return isSigned
        ? (view, at) => view.getInt32(at, true)
        : (view, at) => view.getUint32(at, true);
    case 8:
      return isSigned
        ? (view, at) => view.getBigInt64(at, true)
        : (view, at) => view.getBigUint64(at, true);
    case 16:
      return (view, at) => {
        const high = isSigned ? view.getBigInt64(at + 8, true) : view.getBigUint64(at + 8, true);
        return (high << 64n) | view.getBigUint64(at, true);
      };
    default:
      return undefined;
  }
}

/**
 * Reads some of the bits, counted from the start of the view: the least significant one of a byte comes first.
 *
 * @param size of the type that they belong to, in bytes: it decides between number and bigint
 */
export function readBits(
  view: DataView,
  bit: number,
  bits: number,
  size: number,
  isSigned: boolean,
): number | bigint {
  let value = 0n;
  // Only the bytes that have some of the bits: those behind may not be there.
  for (let at = (bit + bits - 1) >> 3; at >= bit >> 3; at--) {
    value = (value << 8n) | BigInt(view.getUint8(at));
  }
  value >>= BigInt(bit & 7);
  value = isSigned ? BigInt.asIntN(bits, value) : BigInt.asUintN(bits, value);
  return size <= 4 ? Number(value) : value;
}
