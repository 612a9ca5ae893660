/** True if the machine is little-endian: x86-64 and arm64 are, and src/ffi/platform.ts rejects all others. */
export const LITTLE_ENDIAN = true;

/** One Uint8Array for each DataView: making one takes ten times as long as reading a field. */
const byteArrays = new WeakMap<DataView, Uint8Array>();

/**
 * Returns the bytes of a view as a Uint8Array, for bulk operations that DataView lacks. These do not check
 * bounds: see {@link checkBounds}.
 *
 * @throws {TypeError} if the view's buffer is detached.
 */
export function bytesOf(view: DataView): Uint8Array {
  let bytes = byteArrays.get(view);
  // Reading the view's length throws if its buffer is detached. The length changes when a growable buffer grows.
  if (bytes === undefined || bytes.byteLength !== view.byteLength) {
    bytes = new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
    byteArrays.set(view, bytes);
  }
  return bytes;
}

/** Returns a range of a view's bytes without copying them. */
export function bytesAt(view: DataView, offset: number, length: number): Uint8Array {
  return new Uint8Array(view.buffer, view.byteOffset + offset, length);
}

/**
 * Checks that a range of at least one byte is inside a view, and throws DataView's own errors.
 *
 * @throws {RangeError} if a byte lies outside the view.
 * @throws {TypeError} if the view's buffer is detached.
 */
export function checkBounds(view: DataView, offset: number, length: number): void {
  view.getUint8(offset);
  view.getUint8(offset + length - 1);
}

/** Greatest length in bytes for which a loop over a DataView is faster than a bulk operation. */
const SHORT = 32;

/** Sets bytes to zero. @throws {RangeError} if a byte lies outside the view. */
export function zero(view: DataView, offset: number, length: number): void {
  if (length > SHORT) {
    checkBounds(view, offset, length);
    bytesOf(view).fill(0, offset, offset + length);
    return;
  }
  for (let end = offset + length; offset < end; offset++) view.setUint8(offset, 0);
}
