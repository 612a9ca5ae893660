import { describe, expect } from "bun:test";
import {
  DisposedError,
  HashMap,
  LruHashMap,
  PerCpuHashMap,
  possibleCpus,
  t,
} from "../../src/index.ts";
import { isLossless } from "../../src/maps/raw_keys.ts";
import { bpfTest } from "../support/privilege.ts";

/** Returns bytes from texts and numbers, padded with zeros to a size. */
function bytes(size: number, ...parts: (string | number)[]): Uint8Array {
  const all = parts.flatMap((part) => (typeof part === "number" ? [part] : [...Buffer.from(part)]));
  const result = new Uint8Array(size);
  result.set(all);
  return result;
}

const padded = t.struct({ a: t.u64, b: t.u32 });
const tagged = t.struct({ comm: t.cstring(8), pid: t.u32 });
/** Type whose `read` returns the same objects, and whose `write` rejects them. */
const shared = [{ parity: "even" }, { parity: "odd" }];
const parity = t.custom<{ parity: string }>({
  size: 4,
  read: (view, offset) => shared[view.getUint8(offset) % 2] as { parity: string },
  write() {
    throw new RangeError("a parity has no bytes");
  },
});
const float = t.custom<number>({
  size: 4,
  read: (view, offset) => view.getFloat32(offset, true),
  write: (view, offset, value) => view.setFloat32(offset, value, true),
});
class Holder {
  #value: number;
  constructor(value: number) {
    this.#value = value;
  }
  get value(): number {
    return this.#value;
  }
}
const held = t.custom<Holder>({
  size: 4,
  read: (view, offset) => new Holder(view.getUint16(offset, true)),
  write: (view, offset, holder) => view.setUint16(offset, holder.value, true),
});

/** Types that do not keep all bytes, and keys as programs may write them. */
const kinds: readonly (readonly [name: string, type: t.Type<unknown>, keys: Uint8Array[]])[] = [
  [
    "garbage in the padding of a struct",
    padded,
    [bytes(16, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0xde, 0xad, 0xbe, 0xef)],
  ],
  [
    "structs that differ only in their padding",
    padded,
    [1, 2, 3].map((garbage) => bytes(16, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, garbage)),
  ],
  [
    "padding in a struct within an array",
    t.array(t.struct({ a: t.u8, b: t.u16 }), 2),
    [bytes(8, 1, 9, 2, 0, 3, 9, 4, 0)],
  ],
  ["bytes after the NUL of a text", t.cstring(8), [bytes(8, "abc", 0, "xyz"), bytes(8, "d", 0, 1)]],
  [
    "texts that differ only after their NUL",
    t.cstring(8),
    ["x", "y", "z"].map((c) => bytes(8, "a", 0, c)),
  ],
  ["a text that is not UTF-8", t.cstring(8), [bytes(8, 0xff, 0xfe), bytes(8, "a", 0xc3)]],
  [
    "a text that is not UTF-8 and fills its field",
    t.cstring(8),
    [bytes(8, 0xff, 0xff, 0xff, 0xff)],
  ],
  ["a text that fills its field", t.cstring(8), [bytes(8, "abcdefgh"), bytes(8, "abcdefgi")]],
  [
    "a text that fills its field in a struct",
    tagged,
    [bytes(12, "abcdefgh", 1), bytes(12, "abcdefgh", 2), bytes(12, "abc", 0, "x", 0, 0, 0, 3)],
  ],
  ["a bool of 2", t.bool, [bytes(1, 2), bytes(1, 3)]],
  [
    "numbers beyond 2^53",
    t.u64Number,
    [
      bytes(8, 1, 0, 0, 0, 0, 0, 0x20),
      bytes(8, 3, 0, 0, 0, 0, 0, 0x20),
      bytes(8, ...Array(8).fill(255)),
    ],
  ],
  ["numbers below -2^53", t.i64Number, [bytes(8, ...Array(6).fill(255), 0xdf, 0xff)]],
  ["floats that are NaN", float, [bytes(4, 1, 0, 0xc0, 0x7f), bytes(4, 2, 0, 0xc0, 0x7f)]],
  [
    "bits beyond a prefix",
    t.cidr4,
    [bytes(8, 8, 0, 0, 0, 10, 1, 2, 3), bytes(8, 8, 0, 0, 0, 10, 1)],
  ],
  ["a prefix that is too long", t.cidr6, [bytes(20, 200)]],
  ["objects that several keys share", parity, [bytes(4, 1), bytes(4, 3), bytes(4, 4)]],
  [
    "objects without enumerable properties",
    held,
    [bytes(4, 1, 0, 7), bytes(4, 2, 0, 7), bytes(4, 2, 0, 8)],
  ],
];

for (const [name, type, rawKeys] of kinds) {
  describe(`keys with ${name}`, () => {
    /** Creates a map with these keys and the values 1, 2, ..., and opens it with the type. */
    function maps(Class: typeof HashMap = HashMap) {
      const raw = new Class({ key: t.bytes(type.size), value: t.u32, maxEntries: 8 });
      raw.setMany(rawKeys.map((key, index) => [key, index + 1]));
      return { raw, map: Class.fromFd(raw.fd, { key: type, value: t.u32 }) };
    }

    bpfTest("are deleted one by one during an iteration", () => {
      for (const Class of [HashMap, LruHashMap as unknown as typeof HashMap]) {
        const { raw, map } = maps(Class);
        using _raw = raw;
        using _map = map;
        const deleted = [];
        for (const [key] of map) deleted.push(map.delete(key), map.has(key));
        expect(raw.count()).toBe(0);
        expect(deleted.filter(Boolean).length).toBeGreaterThanOrEqual(rawKeys.length);
      }
    });

    bpfTest("are deleted by deleteMany", () => {
      const { raw, map } = maps();
      using _raw = raw;
      using _map = map;
      const keys = [...map.keys()];
      expect(map.deleteMany(keys)).toBe(rawKeys.length);
      expect(raw.count()).toBe(0);
      expect(map.deleteMany(keys)).toBe(0);
      expect(
        keys.map((key) => [map.get(key), map.has(key), map.delete(key), map.take(key)]),
      ).toEqual(keys.map(() => [undefined, false, false, undefined]));
    });

    bpfTest("are looked up, stored, replaced and not added during an iteration", () => {
      const { raw, map } = maps();
      using _raw = raw;
      using _map = map;
      for (const [key, value] of map) {
        expect([map.get(key), map.has(key), map.add(key, 100)]).toEqual([value, true, false]);
        expect(map.replace(key, value + 10)).toBe(true);
        expect(map.get(key)).toBe(value + 10);
        map.set(key, value + 20);
        map.setMany([[key, value + 30]]);
        expect(map.getMany([key])).toEqual([value + 30]);
      }
      expect(rawKeys.map((key) => raw.get(key))).toEqual(rawKeys.map((_, index) => index + 31));
      expect(raw.count()).toBe(rawKeys.length);
    });

    bpfTest("are taken", () => {
      const { raw, map } = maps();
      using _raw = raw;
      using _map = map;
      const values = rawKeys.map((_, index) => index + 1);
      const taken = [];
      for (const [key, value] of map) {
        expect(map.take(key)).toBe(value);
        taken.push(value);
      }
      expect(taken.sort()).toEqual(values);
      raw.setMany(rawKeys.map((key, index) => [key, index + 1]));
      expect(
        map
          .takeMany([...(map.keys() as Iterable<{}>)])
          .map(Number)
          .sort(),
      ).toEqual(values);
      raw.setMany(rawKeys.map((key, index) => [key, index + 1]));
      expect([...map.takeAll()].map(([, value]) => value).sort()).toEqual(values);
      raw.setMany(rawKeys.map((key, index) => [key, index + 1]));
      const batches = [...map.takeAllInBatches({ max: 2 })].flat();
      expect(batches.map(([, value]) => value).sort()).toEqual(values);
      expect(raw.count()).toBe(0);
      // A key of an earlier batch, after another object deleted it.
      expect(batches.map(([key]) => map.take(key))).toEqual(batches.map(() => undefined));
    });

    bpfTest("are iterated by nextKey", () => {
      const { raw, map } = maps();
      using _raw = raw;
      using _map = map;
      const keys = [];
      for (let key = map.nextKey(); key !== undefined; key = map.nextKey(key)) keys.push(key);
      expect<unknown[]>(keys).toEqual([...map.keys()]);
    });

    bpfTest("are deleted after an iteration in arrays, and in per-CPU maps", () => {
      using raw = new PerCpuHashMap({ key: t.bytes(type.size), value: t.u32, maxEntries: 8 });
      using map = PerCpuHashMap.fromFd(raw.fd, { key: type, value: t.u32 });
      for (const [index, key] of rawKeys.entries())
        raw.set(
          key,
          possibleCpus().map(() => index),
        );
      const entries = [...map.entriesInBatches({ max: 2 })].flat();
      expect(entries.length).toBe(rawKeys.length);
      for (const [key] of entries) {
        expect(map.getCpu(key, possibleCpus()[0] as number)).toBeNumber();
      }
      expect(map.deleteMany(entries.map(([key]) => key))).toBe(rawKeys.length);
      expect(raw.count()).toBe(0);
    });
  });
}

describe("keys that an iteration returned", () => {
  const garbage = bytes(16, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 9);

  bpfTest(
    "stand for another key while their fields are changed, and for the first one when they are restored",
    () => {
      using raw = new HashMap({ key: t.bytes(16), value: t.u32, maxEntries: 8 });
      using map = HashMap.fromFd(raw.set(garbage, 1).fd, { key: padded, value: t.u32 });
      map.set({ a: 1n, b: 5 }, 2);
      const key = [...map.keys()].find(({ b }) => b === 2) as t.Infer<typeof padded>;
      expect([map.get(key), map.get({ ...key })]).toEqual([1, undefined]);
      key.b = 5;
      expect([map.get(key), map.delete(key), raw.count()]).toEqual([2, true, 1]);
      expect([map.delete(key), raw.count()]).toEqual([false, 1]);
      map.set(key, 3);
      expect([map.get({ a: 1n, b: 5 }), raw.get(garbage)]).toEqual([3, 1]);
      key.b = 2;
      expect([map.delete(key), raw.get(garbage)]).toEqual([true, undefined]);
    },
  );

  bpfTest("stand for another key after a change even if their type could not write them", () => {
    using raw = new HashMap({ key: t.bytes(12), value: t.u32, maxEntries: 8 });
    raw.set(bytes(12, "abcdefgh", 1), 1).set(bytes(12, "abcdefgh", 2), 2);
    using map = HashMap.fromFd(raw.fd, { key: tagged, value: t.u32 });
    const keys = [...map.keys()];
    for (const key of keys) key.pid += 2;
    for (const key of keys) {
      expect(() => map.get(key)).toThrow(/"comm": expected a string of at most 7 bytes/);
      expect(() => map.deleteMany([key])).toThrow(/"comm": expected a string/);
    }
    for (const key of keys) key.comm = "abc";
    expect(map.getMany(keys)).toEqual([undefined, undefined]);
    expect(map.setMany(keys.map((key) => [key, key.pid])).count()).toBe(4);
    expect(raw.get(bytes(12, "abc", 0, 0, 0, 0, 0, 3))).toBe(3);
  });

  bpfTest("are distinct from an equal key that was stored as the type writes it", () => {
    using raw = new HashMap({ key: t.bytes(8), value: t.u32, maxEntries: 8 });
    raw.set(bytes(8, "a"), 1).set(bytes(8, "a", 0, "x"), 2);
    using map = HashMap.fromFd(raw.fd, { key: t.cstring(8), value: t.u32 });
    // No iteration returned a key, so that this is the key that the type writes.
    expect(map.get("a")).toBe(1);
    for (const [key, value] of map) expect(map.get(key)).toBe(value);
    const values = [map.take("a"), map.take("a"), map.take("a")];
    expect(values.slice(0, 2).sort()).toEqual([1, 2]);
    expect(values[2]).toBeUndefined();
    expect(map.set("a", 3).get("a")).toBe(3);
    expect(raw.count()).toBe(1);
  });

  bpfTest("are added as the type writes them after their deletion", () => {
    using raw = new HashMap({ key: t.bytes(8), value: t.u32, maxEntries: 8 });
    using map = HashMap.fromFd(raw.set(bytes(8, "a", 0, "x"), 1).fd, {
      key: t.cstring(8),
      value: t.u32,
    });
    for (const key of map.keys()) expect([map.add(key, 2), map.take(key)]).toEqual([false, 1]);
    expect([map.replace("a", 3), map.add("a", 4), raw.get(bytes(8, "a"))]).toEqual([
      false,
      true,
      4,
    ]);
  });

  bpfTest("are looked up by getMany, with single calls and by a program", () => {
    const count = 5000;
    using raw = new HashMap({ key: t.bytes(16), value: t.u32, maxEntries: count });
    using map = HashMap.fromFd(raw.fd, { key: padded, value: t.u32 });
    const all = Array.from({ length: count }, (_, index): [Uint8Array, number] => {
      const key = bytes(16);
      new DataView(key.buffer).setUint32(8, index >> 1, true);
      // Each key twice, with different padding.
      key[12] = index;
      return [key, index];
    });
    raw.setMany(all);
    const entries = [...map];
    expect(map.getMany(entries.map(([key]) => key))).toEqual(entries.map(([, value]) => value));
    map.setMany(entries.map(([key, value]) => [key, value + 1]));
    expect(raw.getMany(all.map(([key]) => key))).toEqual(all.map(([, value]) => value + 1));
    expect(map.deleteMany(entries.map(([key]) => key))).toBe(count);
    expect(raw.count()).toBe(0);
  });

  bpfTest("are kept up to a limit that depends on maxEntries", () => {
    const maxEntries = 64;
    using raw = new HashMap({ key: t.bytes(16), value: t.u32, maxEntries });
    using map = HashMap.fromFd(raw.fd, { key: t.cstring(16), value: t.u32 });
    let first: string | undefined;
    for (let round = 0; round < 5; round++) {
      for (let index = 0; index < maxEntries; index++) {
        raw.set(bytes(16, `${round}.${index}`, 0, "x"), index);
      }
      first ??= [...map.keys()][0] as string;
      expect(map.deleteMany([...map.keys()])).toBe(maxEntries);
    }
    // A forgotten key stands for the key that the type writes.
    raw.set(bytes(16, first as string, 0, "x"), 1);
    expect(map.has(first as string)).toBe(false);
    expect([...map].map(([key]) => map.has(key))).toEqual([true]);
    expect(map.has(first as string)).toBe(true);
  });

  bpfTest("can be used if the type's code uses or disposes of the map", () => {
    using raw = new HashMap({ key: t.bytes(4), value: t.u32, maxEntries: 8 });
    let act = () => {};
    const key = t.custom<{ low: number }>({
      size: 4,
      read(view, offset) {
        act();
        return { low: view.getUint8(offset) };
      },
      write(view, offset, { low }) {
        act();
        view.setUint8(offset, low);
      },
    });
    raw.set(bytes(4, 1, 7), 1).set(bytes(4, 2, 7), 2);
    {
      using map = HashMap.fromFd(raw.fd, { key, value: t.u32 });
      act = () => {
        act = () => {};
        expect(map.count()).toBe(2);
        for (const [other, value] of map) expect(map.get(other)).toBe(value);
      };
      for (const [found, value] of map) expect(map.get(found)).toBe(value);
    }
    {
      using map = HashMap.fromFd(raw.fd, { key, value: t.u32 });
      const [found] = [...map.keys()];
      act = () => map[Symbol.dispose]();
      expect(() => map.delete(found as { low: number })).toThrow(DisposedError);
    }
    act = () => {};
    expect(raw.count()).toBe(2);
  });
});

describe("types", () => {
  bpfTest("that keep all bytes are recognized", () => {
    const lossless = [t.u8, t.i64, t.be16, t.u64, t.ipv4, t.ipv6, t.mac, t.bytes(3)];
    const lossy = [t.bool, t.cstring(4), t.u64Number, t.i64Number, t.cidr4, t.cidr6, held, padded];
    expect(lossless.map(isLossless)).toEqual(lossless.map(() => true));
    expect(lossy.map(isLossless)).toEqual(lossy.map(() => false));
    expect(isLossless(t.struct({ a: t.u32, b: t.ipv4 }))).toBe(true);
    expect(isLossless(t.struct({ a: t.u64, b: t.u8 }, { packed: true }))).toBe(true);
    expect(isLossless(t.array(t.struct({ a: t.u8, b: t.u8 }), 3))).toBe(true);
    expect(isLossless(t.array(t.struct({ a: t.u16, b: t.u8 }), 3))).toBe(false);
    expect(isLossless(t.struct({ a: t.u32, b: t.struct({ c: t.bool }) }))).toBe(false);
    // A custom type may do anything, regardless of its kind.
    expect(isLossless({ ...t.u32, read: () => 0 })).toBe(false);
    for (const kind of ["struct", "array"]) {
      const { read, write } = t.u32;
      const own = Object.freeze({ kind, name: "own", size: 4, align: 4, read, write });
      expect(isLossless(own)).toBe(false);
    }
  });
});
