/** True where machines store the least significant byte first: x86-64 and arm64 do, and platform.ts refuses all others. */
export const LITTLE_ENDIAN = true;

/** One byte array per DataView, as making one costs ten times what reading a field does. */
const byteArrays = new WeakMap<DataView, Uint8Array>();

/**
 * The bytes that a view lies over, for the bulk operations that DataView lacks. They do not check
 * bounds as DataView does: see {@link checkBounds}.
 *
 * @throws {TypeError} if the view's buffer is detached
 */
export function bytesOf(view: DataView): Uint8Array {
  let bytes = byteArrays.get(view);
  // The view's length throws when its buffer is detached, and changes when a growable buffer grows.
  if (bytes === undefined || bytes.byteLength !== view.byteLength) {
    bytes = new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
    byteArrays.set(view, bytes);
  }
  return bytes;
}

/** Returns a part of the bytes that a view lies over, not copied. */
export function bytesAt(view: DataView, offset: number, length: number): Uint8Array {
  return new Uint8Array(view.buffer, view.byteOffset + offset, length);
}

/**
 * Throws what DataView itself throws when the bytes are not all inside the view.
 *
 * @throws {RangeError} if they are not
 * @throws {TypeError} if the view's buffer is detached
 */
export function checkBounds(view: DataView, offset: number, length: number): void {
  view.getUint8(offset);
  view.getUint8(offset + length - 1);
}

/** Below this, a loop over a DataView beats one call of a bulk operation. */
const SHORT = 32;

/** Sets bytes to zero. */
export function zero(view: DataView, offset: number, length: number): void {
  if (length > SHORT) {
    checkBounds(view, offset, length);
    bytesOf(view).fill(0, offset, offset + length);
    return;
  }
  for (let end = offset + length; offset < end; offset++) view.setUint8(offset, 0);
}
