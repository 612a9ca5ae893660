import { inspect } from "node:util";
import { describe, expect } from "bun:test";
import {
  ArrayMap,
  type AssociativeMap,
  DecodeError,
  DisposedError,
  HashMap,
  LpmTrie,
  PerCpuHashMap,
  possibleCpus,
  Queue,
  t,
} from "../../src/index.ts";
import { openKernelObjects } from "../support/leaks.ts";
import { bpfTest } from "../support/privilege.ts";
import { BatchlessMap, batchlessMap } from "./batchless.ts";

// The only value that both maps accept: see batchlessMap.
const value = 1;

const makers: readonly [
  name: string,
  make: (maxEntries: number) => AssociativeMap<number, number>,
][] = [
  ["in batches", (maxEntries) => new HashMap({ key: t.u32, value: t.u32, maxEntries })],
  ["key by key, without batches in the kernel", batchlessMap],
];

function filled(make: (maxEntries: number) => AssociativeMap<number, number>, count: number) {
  const map = make(2 * count);
  map.setMany(Array.from({ length: count }, (_, key) => [key, value] as const));
  return map;
}

function sorted(keys: Iterable<number>): number[] {
  return [...keys].sort((a, b) => a - b);
}

function upTo(count: number): number[] {
  return Array.from({ length: count }, (_, key) => key);
}

// More than the first chunk of a walk, and more than the second.
const count = 500;

for (const [name, make] of makers) {
  describe(`iteration ${name}`, () => {
    bpfTest("returns every entry once, in all forms of iteration", () => {
      using map = filled(make, count);
      const pairs = upTo(count).map((key) => [key, value] as [number, number]);
      const byKey = (a: [number, number], b: [number, number]) => a[0] - b[0];
      expect([...map].sort(byKey)).toEqual(pairs);
      expect([...map.entries()].sort(byKey)).toEqual(pairs);
      expect(sorted(map.keys())).toEqual(upTo(count));
      expect([...map.values()]).toEqual(pairs.map(() => value));
      expect(map.toMap()).toEqual(new Map([...map]));
      expect(map.count()).toBe(count);
      const seen: number[] = [];
      map.forEach((of, key, self) => {
        if (of === value && self === map) seen.push(key);
      });
      expect(sorted(seen)).toEqual(upTo(count));
    });

    bpfTest("over an empty map ends at once", () => {
      using map = make(4);
      expect([...map]).toEqual([]);
      expect(map.count()).toBe(0);
    });

    bpfTest("returns all others if the current entry is deleted", () => {
      using map = filled(make, count);
      const seen: number[] = [];
      for (const key of map.keys()) {
        seen.push(key);
        expect(map.delete(key)).toBe(true);
      }
      expect(sorted(seen)).toEqual(upTo(count));
      expect(map.count()).toBe(0);
    });

    bpfTest("returns none twice if some current entries are deleted", () => {
      for (const every of [2, 3, 64]) {
        using map = filled(make, count);
        const seen: number[] = [];
        for (const key of map.keys()) {
          if (seen.push(key) % every === 0) map.delete(key);
        }
        expect(sorted(seen)).toEqual(upTo(count));
      }
    });

    bpfTest("ends if all entries are deleted during it", () => {
      using map = filled(make, count);
      let seen = 0;
      for (const _entry of map) {
        if (++seen === 10) map.deleteMany(upTo(count));
      }
      expect(seen).toBeLessThan(count);
      expect(map.count()).toBe(0);
    });

    bpfTest("ends with all earlier entries if entries are added during it", () => {
      using map = filled(make, count);
      let next = count;
      const seen = new Set<number>();
      for (const key of map.keys()) {
        seen.add(key);
        if (next < 2 * count) map.set(next++, value);
      }
      for (const key of upTo(count)) expect(seen.has(key)).toBe(true);
    });

    bpfTest("ends if each entry is replaced by a new one during it", () => {
      using map = filled(make, count);
      let next = count;
      let steps = 0;
      for (const key of map.keys()) {
        steps++;
        map.delete(key);
        map.set(next++, value);
      }
      expect(steps).toBeLessThanOrEqual(4 * count);
      expect(map.count()).toBe(count);
    });

    bpfTest("ends if all entries are replaced at each step", () => {
      using map = filled(make, 100);
      let next = count;
      let steps = 0;
      for (const _key of map.keys()) {
        if (++steps > 10_000) throw new Error("it does not end");
        map.clear();
        map.setMany(upTo(100).map(() => [next++, value] as const));
      }
      expect(map.count()).toBe(100);
    });

    bpfTest("returns all entries of a full map", () => {
      using map = make(count);
      map.setMany(upTo(count).map((key) => [key, value] as const));
      expect(sorted(map.keys())).toEqual(upTo(count));
    });

    bpfTest("does not affect another iteration, nor does a look-up between its steps", () => {
      using map = filled(make, count);
      const [first, second] = [map.keys(), map.entries()];
      const seen: [number[], number[]] = [[], []];
      for (let i = 0; i < count; i++) {
        const { value: key } = first.next();
        seen[0].push(key ?? -1);
        map.get(i);
        map.delete(2 * count);
        if (i % 2 === 0) seen[1].push(second.next().value?.[0] ?? -1);
      }
      for (const [key] of second) seen[1].push(key);
      expect(first.next().done).toBe(true);
      expect(sorted(seen[0])).toEqual(upTo(count));
      expect(sorted(seen[1])).toEqual(upTo(count));
    });

    bpfTest("throws at its next step after disposal of the map, and not at a break", () => {
      for (const size of [2, count]) {
        for (const walk of ["keys", "values", "entries"] as const) {
          const map = filled(make, size);
          const steps = map[walk]();
          steps.next();
          map[Symbol.dispose]();
          expect(() => steps.next()).toThrow(DisposedError);
          expect(steps.next().done).toBe(true);
        }
      }
      const map = filled(make, count);
      for (const _entry of map) {
        map[Symbol.dispose]();
        break;
      }
    });

    bpfTest("serves deleteMany, takeAll and clear", () => {
      using map = filled(make, count);
      expect(map.deleteMany([1, 2, 5 * count, 3, 1])).toBe(3);
      expect(sorted([...map.takeAll()].map(([key]) => key))).toEqual([0, ...upTo(count).slice(4)]);
      map.setMany(upTo(count).map((key) => [key, value] as const)).clear();
      expect(map.count()).toBe(0);
      expect([map.add(7, value), map.add(7, value), map.take(7), map.take(7)]).toEqual([
        true,
        false,
        value,
        undefined,
      ]);
    });
  });
}

bpfTest("a partial setMany without batches reports how many were stored", () => {
  using map = batchlessMap(8);
  // No interface has this number: the kernel rejects the third pair.
  const pairs = [
    [1, value],
    [2, value],
    [3, 0x7ffffff0],
    [4, value],
  ] as const;
  expect(() => map.setMany(pairs)).toThrow(
    expect.objectContaining({ name: "BatchError", applied: 2, code: "EINVAL" }),
  );
  expect(sorted(map.keys())).toEqual([1, 2]);
});

describe("console.log of a map", () => {
  bpfTest("prints its properties and not its methods", () => {
    const map = new HashMap({ key: t.u32, value: t.u64, maxEntries: 4, name: "shown" });
    const text = inspect(map);
    expect(text).toMatch(/^HashMap \{/);
    for (const part of [`id: ${map.id}`, "shown", "maxEntries: 4", "valueSize: 8"]) {
      expect(text).toContain(part);
    }
    expect(text.split("\n").length).toBeLessThan(12);
    map[Symbol.dispose]();
    expect(inspect({ map })).toContain("disposed: true");
  });
});

describe("lists of keys and pairs", () => {
  bpfTest("must be iterables and not strings, and errors name the wrong element", () => {
    using map = new HashMap({ key: t.u32, value: t.u32, maxEntries: 8, name: "few" });
    // Untyped arguments, as in JavaScript.
    const given = (value: unknown) => value as never;
    for (const wrong of ["12", undefined, null, 5, { a: 1 }]) {
      expect(() => map.getMany(given(wrong))).toThrow(
        /^keys: expected an array or another iterable/,
      );
      expect(() => map.deleteMany(given(wrong))).toThrow(/^keys: expected/);
      expect(() => map.setMany(given(wrong))).toThrow(/^pairs: expected/);
    }
    expect(() => map.getMany([1, 2, -1])).toThrow(/^key 2 of hash map "few": expected an integer/);
    expect(() => map.deleteMany([1, -1])).toThrow(/^key 1 of hash map "few"/);
    expect(() =>
      map.setMany([
        [1, 1],
        [2, given("x")],
      ]),
    ).toThrow(/^value 1 of hash map "few"/);
    expect(map.count()).toBe(0);
  });
});

bpfTest("types are required to open a map", () => {
  using map = new HashMap({ key: t.u32, value: t.u32, maxEntries: 8 });
  expect(() => HashMap.fromFd(map.fd, undefined as never)).toThrow(
    /types: expected those of the map's keys and values or events, as passed to new HashMap/,
  );
});

describe("types that change", () => {
  bpfTest("are detected before the kernel writes past the memory of a value", () => {
    const before = openKernelObjects().size;
    let reads = 0;
    const options = {
      key: t.u32,
      maxEntries: 4,
      // First one type, and then another one.
      get value(): t.Type<unknown> {
        return reads++ < 2 ? t.bytes(4000) : t.u32;
      },
    };
    expect(() => new HashMap(options)).toThrow(
      /changed their sizes since it was created or opened/,
    );
    expect(openKernelObjects().size).toBe(before);
  });
});

/** Custom type whose size changes on request. */
class ChangingType implements t.Type<number> {
  readonly kind = "changing";
  readonly name = "changing";
  readonly align = 1;
  size: number;

  constructor(size: number) {
    this.size = size;
  }

  read(view: DataView, offset: number): number {
    return view.getUint8(offset);
  }

  write(view: DataView, offset: number, value: number): void {
    view.setUint8(offset, value);
  }
}

describe("a type whose size changes after the creation of the map", () => {
  bpfTest.each([1, 100_000, NaN, -8])("does not change the memory of the map: %p", (later) => {
    const value = new ChangingType(4096);
    using map = new HashMap({ key: t.u32, value, maxEntries: 2000 });
    value.size = later;
    const pairs = Array.from({ length: 2000 }, (_, key) => [key, key % 256] as const);
    map.setMany(pairs);
    // A nested call allocates memory while the map's own is in use.
    const nested = t.custom<number>({
      size: 4,
      read: (view, offset) => view.getUint32(offset, true) + (map.get(7) ?? 0),
      write: (view, offset, key) => view.setUint32(offset, key + (map.get(7) ?? 0) - 7, true),
    });
    using outer = HashMap.fromFd(map.fd, { key: nested, value: t.bytes(4096) });
    expect(outer.get(5)?.[0]).toBe(5);
    expect(new Map(map.entries())).toEqual(new Map(pairs));
    expect([...map.values()]).toHaveLength(2000);
    expect(map.getMany([1, 2, 3000])).toEqual([1, 2, undefined]);
    expect(map.deleteMany([1, 2, 3000])).toBe(2);
    expect([...map.takeAll()]).toHaveLength(1998);
  });

  bpfTest("is checked at its creation", () => {
    for (const size of [0, -4, 1.5, NaN, Infinity, "4"]) {
      const value = new ChangingType(size as number);
      expect(() => new HashMap({ key: t.u32, value, maxEntries: 4 })).toThrow(
        /^value: size: expected an integer from 1/,
      );
    }
    const odd = { ...t.u32, kind: "odd", align: 3 };
    expect(() => new HashMap({ key: odd, value: t.u32, maxEntries: 4 })).toThrow(
      /^key: align: expected a power of two/,
    );
  });
});

describe("takeAllInBatches", () => {
  bpfTest("stores entries again whose value cannot be decoded", () => {
    const value = t.custom<number>({
      size: 4,
      align: 4,
      read(view, offset) {
        const number = view.getUint32(offset, true);
        if (number === 50 && isRejecting) throw new Error("no such number");
        return number;
      },
      write: (view, offset, number) => view.setUint32(offset, number, true),
    });
    let isRejecting = false;
    using map = new HashMap({ key: t.u32, value, maxEntries: 100 });
    for (let key = 0; key < 100; key++) map.set(key, key);
    isRejecting = true;
    const taken: [number, number][] = [];
    const drain = () => {
      for (const batch of map.takeAllInBatches({ max: 30 })) taken.push(...batch);
    };
    expect(drain).toThrow("no such number");
    isRejecting = false;
    expect(new Map([...map, ...taken]).size).toBe(100);
    expect(map.get(50)).toBe(50);
  });
});

/** Number that its type cannot decode if its lowest byte is 0xee. */
const partlyDecodable = t.custom<number>({
  size: 4,
  align: 4,
  read(view, offset) {
    const number = view.getUint32(offset, true);
    if ((number & 0xff) === 0xee) throw new RangeError("no such number");
    return number;
  },
  write: (view, offset, number) => view.setUint32(offset, number, true),
});

function errorOf(call: () => unknown): unknown {
  try {
    call();
  } catch (error) {
    return error;
  }
  return undefined;
}

describe("entries that cannot be decoded", () => {
  /** Creates a map in which some keys, values or both cannot be decoded. */
  const numbers = Array.from(
    { length: 300 },
    (_, index) => (index % 100 === 7 ? 0xee : 0) + index * 256,
  );
  const bad = numbers.filter((number) => (number & 0xff) === 0xee);
  const good = numbers.filter((number) => !bad.includes(number));
  const bytesOf = (number: number) => new Uint8Array(Uint32Array.of(number).buffer);

  function maps(keyType: t.Type<number>, valueType: t.Type<number>, make = filledHash) {
    const raw = make();
    raw.setMany(numbers.map((number) => [number, number] as const));
    return { raw, map: HashMap.fromFd(raw.fd, { key: keyType, value: valueType }) };
  }
  const filledHash = () => new HashMap({ key: t.u32, value: t.u32, maxEntries: 512 });

  for (const [part, keyType, valueType] of [
    ["keys", partlyDecodable, t.u32],
    ["values", t.u32, partlyDecodable],
  ] as const) {
    bpfTest(`by their ${part} are reported after all others`, () => {
      const { raw, map } = maps(keyType, valueType);
      using _raw = raw;
      using _map = map;
      const seen: number[] = [];
      const ways: readonly (readonly [string, () => void])[] = [
        ["entries", () => [...map.entries().map(([key]) => seen.push(key))]],
        ["forEach", () => map.forEach((_, key) => seen.push(key))],
        [
          "entriesInBatches",
          () => {
            for (const batch of map.entriesInBatches({ max: 7 }))
              seen.push(...batch.map(([key]) => key));
          },
        ],
        [
          part,
          () => {
            for (const number of map[part]()) seen.push(number);
          },
        ],
      ];
      for (const [name, walk] of ways) {
        seen.length = 0;
        const error = errorOf(walk) as DecodeError;
        expect([name, sorted(seen)]).toEqual([name, good]);
        expect(error).toBeInstanceOf(DecodeError);
        expect([error.count, error.entries.length]).toEqual([bad.length, bad.length]);
        const keys = error.entries.map(({ key }) =>
          new DataView(key.slice().buffer).getUint32(0, true),
        );
        expect(sorted(keys)).toEqual(bad);
        if (part === "values")
          expect(error.entries.map(({ value }) => value)).toEqual(keys.map(bytesOf));
        const value = part === "values" ? ", value 0xee[0-9a-f]{6}" : "";
        expect(error.message).toMatch(
          new RegExp(
            `^cannot decode the entry of hash map \\d+ with key 0xee[0-9a-f]{6}${value}: no such number: .*t\\.bytes\\(n\\)`,
          ),
        );
        expect((error.cause as Error).message).toBe("no such number");
      }
      // Their other part can be decoded.
      expect([...map[part === "keys" ? "values" : "keys"]()].length).toBe(numbers.length);
      expect(map.count()).toBe(numbers.length);
      expect(() => map.toMap()).toThrow(DecodeError);
      // A loop that ends early does not read the rest.
      for (const _entry of map) break;
    });

    bpfTest(`by their ${part} stay when the others are taken, and can be cleared`, () => {
      for (const take of ["takeAll", "takeAllInBatches"] as const) {
        const { raw, map } = maps(keyType, valueType);
        using _raw = raw;
        using _map = map;
        const taken: number[] = [];
        const error = errorOf(() => {
          for (const item of map[take]()) {
            const entries =
              take === "takeAll" ? [item as [number, number]] : (item as [number, number][]);
            taken.push(...entries.map(([key]) => key));
          }
        }) as DecodeError;
        expect(sorted(taken)).toEqual(good);
        expect(error).toBeInstanceOf(DecodeError);
        expect(error.count).toBe(bad.length);
        expect(new Map([...raw].sort(([a], [b]) => a - b))).toEqual(
          new Map(bad.map((number) => [number, number])),
        );
        expect(errorOf(() => [...map[take]()])).toBeInstanceOf(DecodeError);
        map.clear();
        expect(raw.count()).toBe(0);
      }
    });
  }

  bpfTest("are not lost if the kernel has no batches", () => {
    using raw = batchlessMap(64);
    const values = [1, 2, 3, 4, 5];
    raw.setMany(values.map((key) => [key, value]));
    let isRejecting = true;
    const odd = t.custom<number>({
      size: 4,
      align: 4,
      read(view, offset) {
        const number = view.getUint32(offset, true);
        if (isRejecting && number === 1) throw new RangeError("no such number");
        return number;
      },
      write: (view, offset, number) => view.setUint32(offset, number, true),
    });
    using map = new BatchlessMap(raw.fd, { key: odd, value: t.u32 });
    const taken: number[] = [];
    expect(() => {
      // More than there are: the partial array is yielded before the error is thrown.
      for (const batch of map.takeAllInBatches({ max: 8 }))
        taken.push(...batch.map(([key]) => key));
    }).toThrow(DecodeError);
    expect(sorted(taken)).toEqual([2, 3, 4, 5]);
    isRejecting = false;
    expect([...map.keys()]).toEqual([1]);
  });

  bpfTest("are reported by single calls, which do not take them", () => {
    const { raw, map } = maps(t.u32, partlyDecodable);
    using _raw = raw;
    using _map = map;
    const [key] = bad as [number];
    for (const call of [
      () => map.get(key),
      () => map.getMany([key]),
      () => map.take(key),
      () => map.takeMany([...good, key]),
    ]) {
      const error = errorOf(call) as DecodeError;
      expect(error).toBeInstanceOf(DecodeError);
      expect(error.entries).toEqual([{ key: bytesOf(key), value: bytesOf(key) }]);
    }
    expect([...raw].map(([key]) => key).sort((a, b) => a - b)).toEqual(numbers);
    expect([...raw].every(([key, value]) => key === value)).toBe(true);
    expect(map.delete(key)).toBe(true);
  });

  bpfTest("of a queue are removed and reported with their bytes", () => {
    using raw = new Queue({ value: t.u32, maxEntries: 4 });
    raw.push(0xee).push(5).push(0x1ee);
    using queue = Queue.fromFd(raw.fd, { value: partlyDecodable });
    expect(errorOf(() => queue.peek())).toBeInstanceOf(DecodeError);
    const first = errorOf(() => queue.pop()) as DecodeError;
    expect(first.entries).toEqual([{ key: new Uint8Array(0), value: bytesOf(0xee) }]);
    expect(queue.pop()).toBe(5);
    const last = errorOf(() => [...queue.takeAll()]) as DecodeError;
    expect([last.entries[0]?.value, queue.pop()]).toEqual([bytesOf(0x1ee), undefined]);
  });

  bpfTest("can have any thrown value as their cause", () => {
    for (const thrown of [
      Symbol("no"),
      Object.create(null),
      null,
      "no such",
      new DOMException("no"),
    ]) {
      const value = t.custom<number>({
        size: 4,
        read() {
          throw thrown;
        },
        write: () => {},
      });
      using map = new HashMap({ key: t.u32, value, maxEntries: 4 });
      map.set(1, 2);
      const error = errorOf(() => map.get(1)) as DecodeError;
      expect(error).toBeInstanceOf(DecodeError);
      expect(error.cause).toBe(thrown);
      expect(error.message).toContain("no");
    }
  });

  bpfTest("of one CPU are reported with their bytes", () => {
    using raw = new PerCpuHashMap({ key: t.u32, value: t.u32, maxEntries: 4 });
    raw.set(
      1,
      possibleCpus().map(() => 0xee),
    );
    using map = PerCpuHashMap.fromFd(raw.fd, { key: t.u32, value: partlyDecodable });
    const [cpu] = possibleCpus() as [number];
    for (const call of [() => map.getCpu(1, cpu), () => map.get(1), () => map.sum(1)]) {
      const { entries } = errorOf(call) as DecodeError;
      expect(entries[0]?.key).toEqual(bytesOf(1));
      expect(entries[0]?.value?.slice(0, 4)).toEqual(bytesOf(0xee));
    }
  });

  bpfTest("are reported if a program looked them up", () => {
    using raw = new HashMap({ key: t.u32, value: t.u32, maxEntries: 5000 });
    raw.setMany(Array.from({ length: 5000 }, (_, key) => [key, key * 256]));
    using map = HashMap.fromFd(raw.fd, { key: t.u32, value: partlyDecodable });
    expect(map.getMany(upTo(5000))[4999]).toBe(4999 * 256);
    raw.set(4321, 0xee);
    const error = errorOf(() => map.getMany(upTo(5000))) as DecodeError;
    expect(error).toBeInstanceOf(DecodeError);
    expect(error.entries).toEqual([{ key: bytesOf(4321), value: bytesOf(0xee) }]);
  });

  bpfTest("are counted but not kept after the first thousand", () => {
    using raw = new HashMap({ key: t.u32, value: t.u32, maxEntries: 1100 });
    raw.setMany(Array.from({ length: 1100 }, (_, index) => [index * 256 + 0xee, index]));
    using map = HashMap.fromFd(raw.fd, { key: partlyDecodable, value: t.u32 });
    const error = errorOf(() => [...map]) as DecodeError;
    expect([error.count, error.entries.length]).toEqual([1100, 1000]);
  });

  bpfTest("can be read by a map of bytes, as the error says", () => {
    const { raw, map } = maps(partlyDecodable, partlyDecodable);
    using _raw = raw;
    using _map = map;
    using inBytes = HashMap.fromFd(map.fd, { key: t.bytes(4), value: t.bytes(4) });
    const { entries } = errorOf(() => [...map]) as DecodeError;
    for (const { key } of entries) {
      expect(inBytes.get(key)).toEqual(key);
      expect(inBytes.delete(key)).toBe(true);
    }
    expect(sorted(map.keys())).toEqual(good);
  });
});

describe("many keys", () => {
  bpfTest("are taken in their order, with undefined for absent and repeated ones", () => {
    for (const make of [filledWith(HashMap), () => filled(batchlessMap, 8)]) {
      using map = make();
      expect(map.takeMany([3, 99, 1, 3])).toEqual([value, undefined, value, undefined]);
      expect(sorted(map.keys())).toEqual([0, 2, 4, 5, 6, 7]);
      expect(map.takeMany(new Set([0]))).toEqual([value]);
      expect(map.takeMany([])).toEqual([]);
    }
    using trie = new LpmTrie({ key: t.cidr4, value: t.u32, maxEntries: 4 });
    trie.set("10.0.0.0/8", 8).set("10.1.0.0/16", 16);
    expect(trie.takeMany(["10.1.0.0/16", "10.0.0.0/8", "10.0.0.0/8"])).toEqual([16, 8, undefined]);
  });

  bpfTest("all remain in the map if one of them is rejected", () => {
    using map = filled((maxEntries) => new HashMap({ key: t.u32, value: t.u32, maxEntries }), 8);
    expect(() => map.takeMany([1, 2, -1])).toThrow(
      /key 2 of hash map \d+: expected an integer from 0 to 4294967295 \(u32\), got -1/,
    );
    expect(sorted(map.keys())).toEqual(upTo(8));
    map.freeze();
    expect(() => map.takeMany([1, 2])).toThrow(/EPERM/);
    expect(sorted(map.keys())).toEqual(upTo(8));
  });

  function filledWith(Class: typeof HashMap) {
    return () => filled((maxEntries) => new Class({ key: t.u32, value: t.u32, maxEntries }), 8);
  }
});

describe("the next key", () => {
  bpfTest("reaches all keys in the order of an iteration, and ends", () => {
    using map = filled((maxEntries) => new HashMap({ key: t.u32, value: t.u32, maxEntries }), 40);
    const keys = [];
    for (let key = map.nextKey(); key !== undefined; key = map.nextKey(key)) keys.push(key);
    expect(keys).toEqual([...map.keys()]);
    // Another object can continue from any key.
    using other = map.dup();
    expect(other.nextKey(keys[20])).toBe(keys[21]);
    expect(other.nextKey(keys.at(-1))).toBeUndefined();
  });

  bpfTest("of a deleted key is the first key", () => {
    using map = filled((maxEntries) => new HashMap({ key: t.u32, value: t.u32, maxEntries }), 40);
    const first = map.nextKey();
    const last = [...map.keys()].at(-1) as number;
    map.delete(last);
    expect(map.nextKey(last)).toBe(first);
    expect(map.nextKey(9999)).toBe(first);
    map.clear();
    expect([map.nextKey(), map.nextKey(1)]).toEqual([undefined, undefined]);
    // @ts-expect-error a text is not a key
    expect(() => map.nextKey("1")).toThrow(/key of hash map \d+: expected an integer/);
  });

  bpfTest("exists for arrays and tries too", () => {
    using array = new ArrayMap({ value: t.u32, length: 3 });
    expect([array.nextKey(), array.nextKey(0), array.nextKey(1), array.nextKey(2)]).toEqual([
      0,
      1,
      2,
      undefined,
    ]);
    using trie = new LpmTrie({ key: t.cidr4, value: t.u32, maxEntries: 4 });
    trie.set("10.0.0.0/8", 8).set("10.1.0.0/16", 16);
    expect([trie.nextKey(), trie.nextKey("10.1.0.0/16"), trie.nextKey("10.0.0.0/8")]).toEqual([
      "10.1.0.0/16",
      "10.0.0.0/8",
      undefined,
    ]);
  });
});
