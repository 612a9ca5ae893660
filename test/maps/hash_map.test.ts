import { describe, expect } from "bun:test";
import { join } from "node:path";
import { BatchError, BpfError, HashMap, t } from "../../src/index.ts";
import { bpfTest } from "../support/privilege.ts";
import { runBun } from "../support/run.ts";

function numbers(maxEntries = 8): HashMap<t.Type<number>, t.Type<number>> {
  return new HashMap({ key: t.u32, value: t.u32, maxEntries });
}

/** Returns the error that a call throws. */
function thrownBy(call: () => unknown): unknown {
  try {
    call();
  } catch (error) {
    return error;
  }
  throw new Error("nothing was thrown");
}

describe("one element of a hash map", () => {
  bpfTest("get returns the value, or undefined for an absent key", () => {
    using map = numbers();
    expect(map.get(1)).toBeUndefined();
    expect(map.set(1, 10)).toBe(map);
    expect(map.get(1)).toBe(10);
    expect(map.get(2)).toBeUndefined();
  });

  bpfTest("get calls few functions", async () => {
    const { stdout } = await runBun([join(import.meta.dir, "children/calls_of_get.ts")]);
    // Six calls and the key's compiled encoder before the system call, and two after it.
    expect(Number(stdout)).toBeLessThanOrEqual(8);
    expect(Number(stdout)).toBeGreaterThan(0);
  });

  bpfTest("set replaces the value", () => {
    using map = numbers();
    expect(map.set(1, 10).set(1, 11).get(1)).toBe(11);
    expect(map.count()).toBe(1);
  });

  bpfTest("get returns a value of zero", () => {
    using map = numbers();
    map.set(0, 0);
    expect(map.get(0)).toBe(0);
    expect(map.has(0)).toBe(true);
    expect(map.take(0)).toBe(0);
  });

  bpfTest("has returns true for present keys only", () => {
    using map = numbers();
    expect(map.has(1)).toBe(false);
    expect(map.set(1, 1).has(1)).toBe(true);
  });

  bpfTest("add stores absent keys only", () => {
    using map = numbers();
    expect(map.add(1, 10)).toBe(true);
    expect(map.add(1, 11)).toBe(false);
    expect(map.get(1)).toBe(10);
  });

  bpfTest("replace stores present keys only", () => {
    using map = numbers();
    expect(map.replace(1, 10)).toBe(false);
    expect(map.has(1)).toBe(false);
    expect(map.set(1, 10).replace(1, 11)).toBe(true);
    expect(map.get(1)).toBe(11);
  });

  bpfTest("delete returns true if the key was present", () => {
    using map = numbers();
    expect(map.delete(1)).toBe(false);
    expect(map.set(1, 1).delete(1)).toBe(true);
    expect(map.delete(1)).toBe(false);
    expect(map.has(1)).toBe(false);
  });

  bpfTest("take returns the value and deletes the key", () => {
    using map = numbers();
    expect(map.take(1)).toBeUndefined();
    expect(map.set(1, 10).take(1)).toBe(10);
    expect(map.has(1)).toBe(false);
  });

  bpfTest("keys with padding are equal regardless of earlier memory contents", () => {
    const key = t.struct({ kind: t.u8, id: t.u32 });
    using map = new HashMap({ key, value: t.u32, maxEntries: 4 });
    for (let i = 0; i < 100; i++) {
      map.has({ kind: 255, id: 0xffffffff });
      map.set({ kind: 1, id: 2 }, i);
    }
    expect(map.toMap().size).toBe(1);
    expect(map.get({ kind: 1, id: 2 })).toBe(99);
  });

  bpfTest("every type works as key and value", () => {
    using byText = new HashMap({ key: t.cstring(16), value: t.ipv6, maxEntries: 4 });
    expect(byText.set("lo", "::1").get("lo")).toBe("::1");
    using byBytes = new HashMap({ key: t.bytes(3), value: t.i64, maxEntries: 4 });
    expect(byBytes.set(Uint8Array.of(1, 2, 3), -5n).get(Uint8Array.of(1, 2, 3))).toBe(-5n);
  });

  bpfTest("invalid UTF-8 does not end an iteration", () => {
    using raw = new HashMap({ key: t.bytes(4), value: t.bytes(4), maxEntries: 4 });
    const odd = Uint8Array.of(0xff, 0xc0, 0x80, 0xfe);
    raw.set(odd, odd);
    using text = HashMap.fromFd(raw.fd, { key: t.cstring(4), value: t.cstring(4) });
    expect([...text.entries()]).toHaveLength(1);
  });
});

describe("a full hash map", () => {
  bpfTest("rejects another key with E2BIG, and stores it after a deletion", () => {
    using map = numbers(2);
    map.set(1, 1).set(2, 2);
    const error = thrownBy(() => map.set(3, 3));
    expect(error).toBeInstanceOf(BpfError);
    expect(error).toMatchObject({ code: "E2BIG", errno: 7, syscall: "bpf(BPF_MAP_UPDATE_ELEM)" });
    expect((error as BpfError).hint).toContain("full: increase maxEntries");
    expect(thrownBy(() => map.add(3, 3))).toMatchObject({ code: "E2BIG" });
    expect(map.replace(1, 5)).toBe(true);
    map.delete(1);
    expect(map.set(3, 3).toMap()).toEqual(
      new Map([
        [2, 2],
        [3, 3],
      ]),
    );
  });

  bpfTest("keeps the first pairs of setMany, and the error has their number", () => {
    using map = numbers(3);
    const pairs = [1, 2, 3, 4, 5].map((n) => [n, n * 10] as const);
    const error = thrownBy(() => map.setMany(pairs));
    expect(error).toBeInstanceOf(BatchError);
    expect(error).toMatchObject({ applied: 3, code: "E2BIG", name: "BatchError" });
    expect((error as BatchError).message).toContain("3 of 5 were applied");
    expect(map.toMap()).toEqual(new Map(pairs.slice(0, 3)));
  });
});

describe("wrong keys and values", () => {
  const wrong: readonly [
    call: (map: HashMap<t.Type<number>, t.Type<number>>) => unknown,
    RegExp,
  ][] = [
    [(map) => map.get("1" as never), /^key of hash map.*: expected/],
    [(map) => map.get(-1), /^key of hash map/],
    [(map) => map.get(2 ** 32), /^key of hash map/],
    [(map) => map.get(1.5), /^key of hash map/],
    [(map) => map.has(undefined as never), /^key of hash map/],
    [(map) => map.set(1n as never, 1), /^key of hash map/],
    [(map) => map.set(7, "1" as never), /^value of hash map/],
    [(map) => map.set(7, -1), /^value of hash map/],
    [(map) => map.add(7, 2 ** 40), /^value of hash map/],
    [(map) => map.replace(1, null as never), /^value of hash map/],
    [(map) => map.delete({} as never), /^key of hash map/],
    [(map) => map.take(Number.NaN), /^key of hash map/],
    [(map) => map.getMany([1, -1]), /^key 1 of hash map/],
    [(map) => map.deleteMany([1, "2" as never]), /^key 1 of hash map/],
    [
      (map) =>
        map.setMany([
          [7, 7],
          [8, -8],
        ]),
      /^value 1 of hash map/,
    ],
    [
      (map) =>
        map.setMany([
          [7, 7],
          ["8" as never, 8],
        ]),
      /^key \d+ of hash map/,
    ],
    [(map) => map.setMany([[7, 7], 8 as never]), /./],
  ];
  for (const [call, message] of wrong) {
    bpfTest(`are rejected before the map changes: ${String(call).replaceAll(/\s+/g, " ")}`, () => {
      using map = numbers();
      map.set(1, 1);
      const error = thrownBy(() => call(map));
      expect(error instanceof TypeError || error instanceof RangeError).toBe(true);
      expect((error as Error).message).toMatch(message);
      expect(map.toMap()).toEqual(new Map([[1, 1]]));
    });
  }
});

describe("many elements of a hash map", () => {
  bpfTest("getMany returns the values in the order of the keys", () => {
    using map = numbers();
    map.set(1, 10).set(2, 20);
    expect(map.getMany([2, 3, 1, 2])).toEqual([20, undefined, 10, 20]);
    expect(map.getMany(new Set<number>())).toEqual([]);
    // Array methods would skip a hole.
    expect(map.getMany([3, 1]).map((value) => value ?? 0)).toStrictEqual([0, 10]);
  });

  bpfTest("setMany accepts any iterable, and keeps the last value of equal keys", () => {
    using map = numbers();
    expect(
      map.setMany(
        new Map([
          [1, 10],
          [2, 20],
        ]),
      ),
    ).toBe(map);
    map.setMany([
      [1, 11],
      [3, 30],
      [1, 12],
    ]);
    map.setMany([]);
    expect(map.toMap()).toEqual(
      new Map([
        [1, 12],
        [2, 20],
        [3, 30],
      ]),
    );
  });

  bpfTest("deleteMany ignores absent keys at any position", () => {
    using map = numbers(16);
    map.setMany([1, 2, 3, 4, 5, 6].map((n) => [n, n] as const));
    expect(map.deleteMany([99, 1, 2, 98, 97, 3, 1, 96])).toBe(3);
    expect(map.deleteMany([])).toBe(0);
    expect(map.deleteMany(new Set([50, 51]))).toBe(0);
    expect([...map.keys()].sort()).toEqual([4, 5, 6]);
  });

  bpfTest("deleteMany reports how many keys were processed if the kernel rejects one", () => {
    using map = numbers();
    map.set(1, 1).freeze();
    const error = thrownBy(() => map.deleteMany([1, 2]));
    expect(error).toBeInstanceOf(BatchError);
    expect(error).toMatchObject({ applied: 0, code: "EPERM" });
    expect(map.count()).toBe(1);
  });

  bpfTest("a hundred thousand pairs can be stored, read and deleted", () => {
    using map = new HashMap({ key: t.u32, value: t.u64Number, maxEntries: 100_000 });
    map.setMany(Array.from({ length: 100_000 }, (_, n) => [n, n * 3] as const));
    expect(map.count()).toBe(100_000);
    let sum = 0;
    for (const [key, value] of map) sum += value === key * 3 ? 1 : 0;
    expect(sum).toBe(100_000);
    expect(map.deleteMany(Array.from({ length: 50_000 }, (_, n) => n * 2))).toBe(50_000);
    map.clear();
    expect(map.count()).toBe(0);
  });

  bpfTest("takeAll deletes each entry when it is returned, and no others", () => {
    using map = numbers();
    map.setMany([
      [1, 10],
      [2, 20],
      [3, 30],
    ]);
    const taking = map.takeAll();
    const { value } = taking.next();
    expect(map.count()).toBe(2);
    expect(map.has(value?.[0] ?? 0)).toBe(false);
    taking.return(undefined);
    expect(map.count()).toBe(2);
    expect([...map.takeAll()]).toHaveLength(2);
    expect(map.count()).toBe(0);
    expect([...map.takeAll()]).toEqual([]);
  });

  bpfTest("clear deletes all entries", () => {
    using map = numbers(1000);
    map.setMany(Array.from({ length: 1000 }, (_, n) => [n, n] as const));
    expect(map.clear()).toBeUndefined();
    expect(map.toMap()).toEqual(new Map());
    expect(map.set(1, 2).get(1)).toBe(2);
  });
});

describe("takeAll", () => {
  const rows = [
    ["text after a NUL", t.cstring(8), [97, 0, 98, 0, 0, 0, 0, 0]],
    ["text that is not UTF-8", t.cstring(8), [0xff, 0xfe, 0, 0, 0, 0, 0, 0]],
    ["padding that a program left", t.struct({ a: t.u8, b: t.u32 }), [1, 9, 9, 9, 2, 0, 0, 0]],
    ["a number past 2^53", t.u64Number, [1, 0, 0, 0, 0, 0, 0, 0xff]],
  ] as const;
  for (const [name, key, bytes] of rows) {
    bpfTest(`takes a key with ${name}`, () => {
      using raw = new HashMap({ key: t.bytes(8), value: t.u32, maxEntries: 4 });
      raw.set(new Uint8Array(bytes), 5);
      using map = HashMap.fromFd(raw.fd, { key: key as typeof t.u64Number, value: t.u32 });
      expect([...map.takeAll()].map(([, value]) => value)).toEqual([5]);
      expect(raw.count()).toBe(0);
    });
  }
});
