import { describe, expect, test } from "bun:test";
import * as t from "../../src/types/t.ts";
import { repetitions } from "../support/effort.ts";
import { decode, encode, refusal, roundTrip } from "./bytes_of.ts";

describe.each([1, 3, 16, 17, 300])("bytes(%d)", (length) => {
  const type = t.bytes(length);
  const sample = Uint8Array.from({ length }, (_, index) => (index * 37 + 11) & 255);

  test("has the properties of its type", () => {
    expect(type).toMatchObject({
      kind: "bytes",
      name: `bytes(${length})`,
      size: length,
      align: 1,
      length,
    });
  });

  test("writes and reads every byte", () => {
    expect(encode(type, sample)).toBe(sample.toHex());
    expect(roundTrip(type, sample)).toStrictEqual(sample);
  });

  test("reads a new plain Uint8Array", () => {
    const view = new DataView(new ArrayBuffer(length + 4), 2);
    type.write(view, 1, sample);
    const copy = type.read(view, 1);
    type.write(view, 1, new Uint8Array(length));
    expect(copy).toStrictEqual(sample);
    expect(copy.constructor).toBe(Uint8Array);
    expect(copy.buffer.byteLength).toBe(length);
  });

  test("accepts a Buffer, and views of a larger buffer", () => {
    expect(encode(type, Buffer.from(sample))).toBe(sample.toHex());
    const larger = new Uint8Array(length + 8);
    larger.set(sample, 5);
    expect(encode(type, larger.subarray(5, 5 + length))).toBe(sample.toHex());
  });

  test("rejects another length", () => {
    expect(refusal(type, new Uint8Array(length + 1))).toBe(
      `RangeError: expected a Uint8Array of ${length} bytes (bytes(${length})), got a Uint8Array of ${length + 1} bytes`,
    );
    expect(refusal(type, new Uint8Array(length - 1))).toStartWith("RangeError: ");
  });

  test.each([
    ["an array", new Array(length).fill(0)],
    ["a string", "x".repeat(length)],
    ["other typed arrays", new Int8Array(length)],
    ["an ArrayBuffer", new ArrayBuffer(length)],
    ["null", null],
  ])("rejects %s", (_what, value) => {
    expect(refusal(type, value)).toStartWith("TypeError: expected a Uint8Array of ");
  });

  test("throws DataView's error for bytes outside the view", () => {
    const view = new DataView(new ArrayBuffer(length + 4), 2, length + 1);
    for (const offset of [-1, 2]) {
      expect(() => type.read(view, offset)).toThrow(RangeError);
      expect(() => type.write(view, offset, sample)).toThrow(RangeError);
    }
  });

  test("throws DataView's error for a detached buffer, also after use", () => {
    const buffer = new ArrayBuffer(length);
    const view = new DataView(buffer);
    type.write(view, 0, sample);
    type.read(view, 0);
    buffer.transfer();
    expect(() => type.read(view, 0)).toThrow(TypeError);
    expect(() => type.write(view, 0, sample)).toThrow(TypeError);
  });
});

test("bytes read a growable buffer after it has grown", () => {
  const buffer = new ArrayBuffer(32, { maxByteLength: 64 });
  const view = new DataView(buffer);
  const type = t.bytes(20);
  type.read(view, 0);
  buffer.resize(64);
  type.write(view, 40, new Uint8Array(20).fill(9));
  expect(type.read(view, 40)).toStrictEqual(new Uint8Array(20).fill(9));
});

describe("a value whose length property is 4 but whose real length is not", () => {
  class FalseLength extends Uint8Array {
    claimed = 4;
    override get length(): number {
      return this.claimed;
    }
    override get byteLength(): number {
      return 4;
    }
    override get byteOffset(): number {
      return 0;
    }
    override get buffer(): ArrayBuffer {
      return new ArrayBuffer(4);
    }
  }
  const growing = new Uint8Array(new ArrayBuffer(8, { maxByteLength: 64 }));
  const detached = new Uint8Array(4);
  detached.buffer.transfer();
  const unlike: [string, unknown][] = [
    ["too long", new FalseLength(12)],
    ["too short", new FalseLength(2)],
    ["an object with the prototype", Object.create(Uint8Array.prototype, { length: { value: 4 } })],
    [
      "an array with the prototype",
      Object.setPrototypeOf([1, 2, 3, 4, 5, 6], Uint8Array.prototype),
    ],
    ["a proxy", new Proxy(new Uint8Array(8), { get: (_, name) => (name === "length" ? 4 : 0) })],
    ["a DataView", Object.setPrototypeOf(new DataView(new ArrayBuffer(4)), Uint8Array.prototype)],
    ["a length-tracking array", growing],
    ["detached", detached],
  ];
  test.each(unlike)("is rejected without writing other bytes: %s", (_, value) => {
    for (const length of [4, 20]) {
      const type = t.bytes(length);
      const memory = new Uint8Array(64).fill(0xaa);
      const write = () => type.write(new DataView(memory.buffer), 8, value as Uint8Array);
      expect(write).toThrow(/expected a Uint8Array of|typed array/);
      expect(memory).toEqual(new Uint8Array(64).fill(0xaa));
    }
  });

  test("is rejected with its real length in the error", () => {
    expect(refusal(t.bytes(4), new FalseLength(12))).toBe(
      "RangeError: expected a Uint8Array of 4 bytes (bytes(4)), got a FalseLength of 4 bytes: it has 12",
    );
  });

  test("is written if the real length is that of the type", () => {
    const rightLength = new FalseLength(6).fill(7);
    rightLength.claimed = 1;
    expect(encode(t.bytes(6), rightLength)).toBe("07".repeat(6));
    expect(encode(t.bytes(3), new Uint8Array(new SharedArrayBuffer(3)))).toBe("000000");
    const tracking = new Uint8Array(new ArrayBuffer(4, { maxByteLength: 8 }));
    expect(encode(t.bytes(4), tracking)).toBe("00000000");
  });
});

test("bytes can be copied within one buffer", () => {
  const memory = Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8);
  t.bytes(6).write(new DataView(memory.buffer), 2, memory.subarray(0, 6));
  expect([...memory]).toEqual([1, 2, 1, 2, 3, 4, 5, 6]);
});

test.each([0, -1, 1.5, 2 ** 31, NaN, Infinity, "16", 16n, undefined])(
  "bytes(%p) is rejected",
  (length) => {
    expect(() => t.bytes(length as number)).toThrow(RangeError);
    expect(() => t.bytes(length as number)).toThrow(
      "bytes(length): expected an integer from 1 to 2147483647, got ",
    );
  },
);

const hexOf = (text: string): string => Buffer.from(text, "utf8").toHex();

// 16 has a separate reader; 3 is shorter than a word; 17 and 67 are not multiples of a word.
describe.each([1, 3, 8, 16, 17, 67, 300])("cstring(%d)", (length) => {
  const type = t.cstring(length);

  test("has the properties of its type", () => {
    expect(type).toMatchObject({
      kind: "cstring",
      name: `cstring(${length})`,
      size: length,
      align: 1,
      length,
    });
  });

  test("writes and reads every length with room for the NUL, and zeroes the rest", () => {
    for (let used = 0; used < length; used++) {
      const text = "abcdefghijklmnopqrstuvwxyz".repeat(12).slice(0, used);
      expect(encode(type, text)).toBe(hexOf(text).padEnd(length * 2, "0"));
      expect(roundTrip(type, text)).toBe(text);
    }
  });

  test("reads up to the first NUL", () => {
    for (let used = 0; used < length; used++) {
      const hex = "61".repeat(used) + "00" + "ff".repeat(length - used - 1);
      expect(decode(type, hex)).toBe("a".repeat(used));
    }
  });

  test("reads up to the end if there is no NUL", () => {
    expect(decode(type, "61".repeat(length))).toBe("a".repeat(length));
  });

  test("reads invalid UTF-8 as U+FFFD, like TextDecoder", () => {
    const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
    for (const hex of ["ff", "c3", "eda080", "f09f90", "80", "61ff62", "efbbbf61", "c0af"]) {
      const padded = hex.padEnd(length * 2, "0").slice(0, length * 2);
      const used = Math.min(length, hex.length / 2);
      const expected = decoder.decode(Uint8Array.fromHex(padded).subarray(0, used));
      expect(decode(type, padded)).toBe(expected);
    }
  });

  test("rejects a string that is too long", () => {
    const text = "x".repeat(length);
    expect(refusal(type, text)).toStartWith(
      `RangeError: expected a string of at most ${length - 1} bytes of UTF-8 (cstring(${length})), got "x`,
    );
    expect(refusal(type, text)).toEndWith(`: it takes ${length} bytes`);
  });

  test.each([1, null, undefined, true, 5n, [["a"]], new Uint8Array(1)])("rejects %p", (value) => {
    expect(refusal(type, value)).toStartWith("TypeError: expected a string of at most ");
  });

  test("throws DataView's error for bytes outside the view", () => {
    const view = new DataView(new ArrayBuffer(length + 4), 2, length + 1);
    for (const offset of [-1, 2]) {
      expect(() => type.read(view, offset)).toThrow(RangeError);
      expect(() => type.write(view, offset, "")).toThrow(RangeError);
    }
  });

  test("throws DataView's error for a detached buffer, also after use", () => {
    const buffer = new ArrayBuffer(length);
    const view = new DataView(buffer);
    type.write(view, 0, "");
    type.read(view, 0);
    buffer.transfer();
    expect(() => type.read(view, 0)).toThrow(TypeError);
    expect(() => type.write(view, 0, "")).toThrow(TypeError);
  });
});

describe.each([16, 100])("strings beyond ASCII in cstring(%d)", (length) => {
  const type = t.cstring(length);

  test.each(["é", "héllo", "日本語", "🐝🐝🐝", "a\u{10ffff}b", "\ufeffbom", "\u0080\u07ff\u0800"])(
    "writes and reads %p",
    (text) => {
      expect(encode(type, text)).toBe(hexOf(text).padEnd(length * 2, "0"));
      expect(roundTrip(type, text)).toBe(text);
    },
  );

  test("counts bytes, not characters", () => {
    const fits = "é".repeat((length - 1) >> 1);
    expect(roundTrip(type, fits)).toBe(fits);
    expect(refusal(type, `${fits}é`)).toEndWith(`: it takes ${fits.length * 2 + 2} bytes`);
  });

  test.each(["a\0b", "\0", "é\0"])("rejects the NUL in %p", (text) => {
    expect(refusal(type, text)).toStartWith("RangeError: ");
    expect(refusal(type, text)).toEndWith(`: the NUL at index ${text.indexOf("\0")} would end it`);
  });

  test.each(["\ud800", "a\udc00b"])("rejects the lone surrogate in %p", (text) => {
    expect(refusal(type, text)).toEndWith(": it has a lone surrogate");
  });
});

test("the cache of task names returns the right name for any number of names", () => {
  const type = t.cstring(16);
  const view = new DataView(new ArrayBuffer(16));
  // The names differ in one of four words, so all words must be compared.
  for (const word of [0, 1, 2, 3]) {
    for (let i = 0; i < repetitions(2000); i++) {
      const number = String(i).padStart(4, "0");
      const name = `${"x".repeat(word * 4)}${number}${"y".repeat(12 - word * 4)}`.slice(0, 15);
      type.write(view, 0, name);
      expect(type.read(view, 0)).toBe(name);
      expect(type.read(view, 0)).toBe(name);
    }
  }
});

test("the cache of task names distinguishes names that differ in one byte", () => {
  const type = t.cstring(16);
  const bytes = new Uint8Array(16);
  const view = new DataView(bytes.buffer);
  for (let index = 0; index < 16; index++) {
    for (const byte of [0x61, 0x62, 0xe9, 0x00]) {
      bytes.fill(0x7a);
      bytes[index] = byte;
      const end = bytes.indexOf(0);
      const text = new TextDecoder().decode(bytes.subarray(0, end < 0 ? 16 : end));
      expect(type.read(view, 0)).toBe(text);
    }
  }
});

test.each([0, -1, 1.5, 2 ** 31, NaN, "16"])("cstring(%p) is rejected", (length) => {
  expect(() => t.cstring(length as number)).toThrow(RangeError);
  expect(() => t.cstring(length as number)).toThrow("cstring(length): expected an integer from 1");
});
