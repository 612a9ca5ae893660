import { describe, expect, test } from "bun:test";
import * as t from "../../src/types/t.ts";
import { encode, refusal, roundTrip } from "./bytes_of.ts";

describe.each([1, 3, 16, 17, 300])("bytes(%d)", (length) => {
  const type = t.bytes(length);
  const sample = Uint8Array.from({ length }, (_, index) => (index * 37 + 11) & 255);

  test("describes itself", () => {
    expect(type).toMatchObject({
      kind: "bytes",
      name: `bytes(${length})`,
      size: length,
      align: 1,
      length,
    });
  });

  test("keeps every byte", () => {
    expect(encode(type, sample)).toBe(sample.toHex());
    expect(roundTrip(type, sample)).toStrictEqual(sample);
  });

  test("reads a plain Uint8Array of its own", () => {
    const view = new DataView(new ArrayBuffer(length + 4), 2);
    type.write(view, 1, sample);
    const copy = type.read(view, 1);
    type.write(view, 1, new Uint8Array(length));
    expect(copy).toStrictEqual(sample);
    expect(copy.constructor).toBe(Uint8Array);
    expect(copy.buffer.byteLength).toBe(length);
  });

  test("takes a Buffer, and views into larger memory", () => {
    expect(encode(type, Buffer.from(sample))).toBe(sample.toHex());
    const larger = new Uint8Array(length + 8);
    larger.set(sample, 5);
    expect(encode(type, larger.subarray(5, 5 + length))).toBe(sample.toHex());
  });

  test("refuses another length", () => {
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
  ])("refuses %s", (_what, value) => {
    expect(refusal(type, value)).toStartWith("TypeError: expected a Uint8Array of ");
  });

  test("throws outside the view, as DataView does", () => {
    const view = new DataView(new ArrayBuffer(length + 4), 2, length + 1);
    for (const offset of [-1, 2]) {
      expect(() => type.read(view, offset)).toThrow(RangeError);
      expect(() => type.write(view, offset, sample)).toThrow(RangeError);
    }
  });

  test("throws on a detached buffer, as DataView does, also when it was used before", () => {
    const buffer = new ArrayBuffer(length);
    const view = new DataView(buffer);
    type.write(view, 0, sample);
    type.read(view, 0);
    buffer.transfer();
    expect(() => type.read(view, 0)).toThrow(TypeError);
    expect(() => type.write(view, 0, sample)).toThrow(TypeError);
  });
});

test("bytes follow a growable buffer as it grows", () => {
  const buffer = new ArrayBuffer(32, { maxByteLength: 64 });
  const view = new DataView(buffer);
  const type = t.bytes(20);
  type.read(view, 0);
  buffer.resize(64);
  type.write(view, 40, new Uint8Array(20).fill(9));
  expect(type.read(view, 40)).toStrictEqual(new Uint8Array(20).fill(9));
});

test("bytes move within their own memory", () => {
  const memory = Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8);
  t.bytes(6).write(new DataView(memory.buffer), 2, memory.subarray(0, 6));
  expect([...memory]).toEqual([1, 2, 1, 2, 3, 4, 5, 6]);
});

test.each([0, -1, 1.5, 2 ** 31, NaN, Infinity, "16", 16n, undefined])(
  "bytes(%p) is refused",
  (length) => {
    expect(() => t.bytes(length as number)).toThrow(RangeError);
    expect(() => t.bytes(length as number)).toThrow(
      "bytes(length): expected an integer from 1 to 2147483647, got ",
    );
  },
);
