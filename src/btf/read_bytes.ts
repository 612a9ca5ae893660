/** @module Bytes that are no numbers: texts, and what JavaScript has no value for. */

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
/** What texts do not have: control characters, other than those of white space. */
const controls = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f]/;

/** The bytes as numbers. @throws {RangeError} when the view has not so many */
export function byteList(view: DataView, at: number, length: number): number[] {
  return [...bytesOf(view, at, length)];
}

/**
 * The text up to the first NUL, or `undefined` where it is none: without a NUL, or with bytes that no text has.
 *
 * @throws {RangeError} when the view has not so many bytes
 */
export function textOf(view: DataView, at: number, length: number): string | undefined {
  const bytes = bytesOf(view, at, length);
  const end = bytes.indexOf(0);
  if (end === -1) return undefined;
  // Bytes that begin with a NUL and go on are more likely numbers.
  if (end === 0) return bytes.some((byte) => byte !== 0) ? undefined : "";
  try {
    const text = utf8.decode(bytes.subarray(0, end));
    return controls.test(text) ? undefined : text;
  } catch {
    return undefined;
  }
}

function bytesOf(view: DataView, at: number, length: number): Uint8Array {
  if (at + length > view.byteLength) {
    throw new RangeError(
      `${length} bytes at ${at} are beyond the end of the ${view.byteLength} there are`,
    );
  }
  return new Uint8Array(view.buffer, view.byteOffset + at, length);
}
