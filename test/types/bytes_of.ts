import type * as t from "../../src/types/t.ts";

/** Writes a value over bytes of 0xaa, so that unwritten bytes show, and returns the bytes in hexadecimal. */
export function encode<T>(type: t.Type<T>, value: T): string {
  const bytes = new Uint8Array(type.size).fill(0xaa);
  type.write(new DataView(bytes.buffer), 0, value);
  return bytes.toHex();
}

/** Reads a value from bytes in hexadecimal. */
export function decode<T>(type: t.Type<T>, hex: string): T {
  return type.read(new DataView(Uint8Array.fromHex(hex).buffer), 0);
}

/** Writes a value and reads it back. */
export function roundTrip<T>(type: t.Type<T>, value: T): T {
  return decode(type, encode(type, value));
}

/** Returns the error of writing a value of any type, as `"RangeError: ..."`. */
export function refusal(type: t.Type<unknown>, value: unknown): string {
  try {
    encode(type, value);
  } catch (error) {
    return String(error);
  }
  return "written";
}
