import type * as t from "../../src/types/t.ts";

/** What a type writes, in hexadecimal; the memory held 0xaa before, so that forgotten bytes show. */
export function encode<T>(type: t.Type<T>, value: T): string {
  const bytes = new Uint8Array(type.size).fill(0xaa);
  type.write(new DataView(bytes.buffer), 0, value);
  return bytes.toHex();
}

/** What a type reads from bytes in hexadecimal. */
export function decode<T>(type: t.Type<T>, hex: string): T {
  return type.read(new DataView(Uint8Array.fromHex(hex).buffer), 0);
}

/** What a type reads back of what it wrote. */
export function roundTrip<T>(type: t.Type<T>, value: T): T {
  return decode(type, encode(type, value));
}

/** The error of writing what the compiler would not let through, as `"RangeError: ..."`. */
export function refusal(type: t.Type<unknown>, value: unknown): string {
  try {
    encode(type, value);
  } catch (error) {
    return String(error);
  }
  return "written";
}
