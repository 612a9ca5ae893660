import { describe, expect } from "bun:test";
import { ArrayMap, t } from "../../src/index.ts";
import { bpfTest } from "../support/privilege.ts";

describe("an array map", () => {
  bpfTest("has all values zeroed at creation", () => {
    using map = new ArrayMap({ value: t.u32, length: 3 });
    expect(map.length).toBe(3);
    expect(map.count()).toBe(3);
    expect([...map]).toEqual([
      [0, 0],
      [1, 0],
      [2, 0],
    ]);
    expect(map.toMap()).toEqual(
      new Map([
        [0, 0],
        [1, 0],
        [2, 0],
      ]),
    );
  });

  bpfTest("gets and sets values by index", () => {
    using map = new ArrayMap({ value: t.i64, length: 3 });
    expect(map.set(0, -1n).set(2, 5n)).toBe(map);
    expect([map.get(0), map.get(1), map.get(2), map.get(3)]).toEqual([-1n, 0n, 5n, undefined]);
    expect([map.has(2), map.has(3)]).toEqual([true, false]);
    expect(map.getMany([2, 9, 0])).toEqual([5n, undefined, -1n]);
    expect([...map.keys()]).toEqual([0, 1, 2]);
    expect([...map.values()]).toEqual([-1n, 0n, 5n]);
    const seen: unknown[] = [];
    map.forEach((value, key, of) => seen.push([key, value, of === map]));
    expect(seen).toEqual([
      [0, -1n, true],
      [1, 0n, true],
      [2, 5n, true],
    ]);
  });

  bpfTest("at() counts from the end for negative indexes, as arrays do", () => {
    using map = new ArrayMap({ value: t.u32, length: 4 });
    map.setMany([
      [0, 10],
      [1, 11],
      [2, 12],
      [3, 13],
    ]);
    const model = [10, 11, 12, 13];
    for (const index of [0, 3, 4, -1, -4, -5, 1.9, -0.5, Number.NaN, 2 ** 32, -(2 ** 40), 1e300]) {
      expect([index, map.at(index)]).toEqual([index, model.at(index)]);
    }
    expect(map.at(undefined as never)).toBe(10);
  });

  bpfTest("rejects stores outside the array before any value changes", () => {
    using map = new ArrayMap({ value: t.u32, length: 4, name: "few" });
    const outside = 'index of array map "few": expected an integer from 0 to 3, got 4';
    expect(() => map.set(4, 1)).toThrow(new RangeError(outside));
    expect(() =>
      map.setMany([
        [0, 1],
        [4, 1],
      ]),
    ).toThrow(new RangeError(outside));
    for (const index of [-1, 1.5, Number.NaN, Number.POSITIVE_INFINITY]) {
      expect(() => map.set(index, 1)).toThrow(RangeError);
    }
    for (const index of ["0", 0n, undefined, null]) {
      expect(() => map.set(index as never, 1)).toThrow(TypeError);
    }
    expect(() =>
      map.setMany([
        [0, 1],
        [1, -1],
      ]),
    ).toThrow(RangeError);
    expect([...map.values()]).toEqual([0, 0, 0, 0]);
  });

  bpfTest("stores many values from any iterable", () => {
    using map = new ArrayMap({ value: t.u32, length: 5000 });
    map.setMany(new Map(Array.from({ length: 5000 }, (_, n) => [n, n ^ 0xff])));
    expect([...map.values()]).toEqual(Array.from({ length: 5000 }, (_, n) => n ^ 0xff));
  });

  bpfTest("works with one entry and with large values", () => {
    using map = new ArrayMap({ value: t.bytes(100_000), length: 2 });
    const large = new Uint8Array(100_000).fill(7);
    map.set(1, large);
    expect(map.get(1)).toEqual(large);
    expect([...map.values()].map((value) => value[99_999])).toEqual([0, 7]);
  });
});

describe("the view of an array map", () => {
  for (const size of [1, 3, 8, 13, 4096, 5000]) {
    bpfTest(`has values of ${size} bytes at multiples of the stride`, () => {
      using map = new ArrayMap({ value: t.bytes(size), length: 5, mmap: true });
      expect(map.stride).toBe(Math.ceil(size / 8) * 8);
      expect(map.view.byteLength).toBe(5 * map.stride);
      map.set(4, new Uint8Array(size).fill(9));
      expect(map.view.getUint8(4 * map.stride + size - 1)).toBe(9);
      map.view.setUint8(3 * map.stride, 77);
      expect(map.get(3)?.[0]).toBe(77);
      expect(map.get(2)).toEqual(new Uint8Array(size));
    });
  }

  bpfTest("is one object and shows stores of others", () => {
    using map = new ArrayMap({ value: t.u32, length: 2, mmap: true });
    const { view } = map;
    expect(map.view).toBe(view);
    using other = map.dup();
    other.set(1, 42);
    expect(view.getUint32(map.stride, true)).toBe(42);
    expect(other.view).not.toBe(view);
  });

  bpfTest("requires mmap: true", () => {
    using map = new ArrayMap({ value: t.u32, length: 2, name: "plain" });
    expect(() => map.view).toThrow(
      new TypeError('array map "plain" has no view: create it with { mmap: true }'),
    );
    using flagged = new ArrayMap({ value: t.u32, length: 2, flags: ["mmapable"] });
    expect(flagged.view.byteLength).toBe(16);
  });

  bpfTest("prevents freezing of the map", () => {
    using map = new ArrayMap({ value: t.u32, length: 2, mmap: true });
    void map.view;
    expect(() => map.freeze()).toThrow(expect.objectContaining({ code: "EBUSY" }));
  });
});
