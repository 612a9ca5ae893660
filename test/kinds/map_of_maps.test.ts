import { describe, expect } from "bun:test";
import {
  ArrayMap,
  ArrayOfMaps,
  asm,
  BatchError,
  BpfError,
  createMap,
  HashMap,
  HashOfMaps,
  type InnerMapOptions,
  PerCpuArrayMap,
  possibleCpus,
  Program,
  Queue,
  RingBuf,
  t,
  features,
} from "../../src/index.ts";
import { bpfTest } from "../support/privilege.ts";
import { openKernelObjects } from "../support/leaks.ts";
import { withRandom } from "../types/random.ts";
import { repetitions } from "../support/effort.ts";

const inner = { key: t.u32, value: t.u64Number, maxEntries: 8 } as const;

const innerHash = { type: "hash", ...inner } as const;

function outer() {
  const name = "outer";
  return new HashOfMaps({ key: t.u32, maxEntries: 4, name, inner: { type: "hash", ...inner } });
}

describe.each([
  ["a hash", () => new HashOfMaps({ key: t.u32, maxEntries: 64, inner: innerHash })],
  ["an array", () => new ArrayOfMaps({ length: 64, inner: innerHash })],
] as const)("%s of maps in batches", (_, create) => {
  /** Creates an outer map with inner maps that contain their own index as a key. */
  function filled(count: number) {
    const stack = new DisposableStack();
    const list = Array.from({ length: count }, (__, key) =>
      stack.use(new HashMap(inner)).set(key, key),
    );
    const maps: HashOfMaps<typeof t.u32, typeof innerHash> | ArrayOfMaps<typeof innerHash> =
      stack.use(create());
    maps.setMany(list.map((map, key) => [key, map] as const));
    return { stack, list, maps };
  }
  const inOrder = <T>(entries: Iterable<[number, T]>) => [...entries].sort(([a], [b]) => a - b);

  bpfTest("setMany stores the same as single calls", () => {
    const { stack, list, maps } = filled(20);
    using _stack = stack;
    expect(inOrder(maps.ids())).toEqual(list.map(({ id }, key) => [key, id]));
    // Replaces maps.
    expect(
      maps.setMany([
        [3, list[4] as never],
        [40, list[5] as never],
      ]),
    ).toBe(maps);
    expect([maps.getId(3), maps.getId(40), maps.count()]).toEqual([list[4]?.id, list[5]?.id, 21]);
    expect(maps.setMany([]).count()).toBe(21);
  });

  bpfTest(
    "setMany stores none if one is not a map of the right type, and reports how many it stored if the kernel rejects one",
    () => {
      using maps = create();
      using good = new HashMap(inner);
      using array = new ArrayMap({ value: t.u64Number, length: 8 });
      using wide = new HashMap({ ...inner, value: t.array(t.u64Number, 2) });
      const outerMaps: { setMany(pairs: unknown): unknown } = maps;
      expect(() =>
        outerMaps.setMany([
          [0, good],
          [1, array],
        ]),
      ).toThrow(/expected a hash map, got the array map/);
      expect(() =>
        outerMaps.setMany([
          [0, good],
          [1, 5],
        ]),
      ).toThrow(/expected a map, got 5/);
      expect(() => outerMaps.setMany([[0, good], [1]])).toThrow(/pair 1 .*expected \[key, value\]/);
      expect(() =>
        outerMaps.setMany([
          [0, good],
          [-1, good],
        ]),
      ).toThrow(/key 1 of .*got -1/);
      expect(maps.count()).toBe(0);
      let refusal: unknown;
      try {
        outerMaps.setMany([
          [0, good],
          [1, good],
          [2, wide],
          [3, good],
        ]);
      } catch (error) {
        refusal = error;
      }
      expect(refusal).toBeInstanceOf(BatchError);
      expect((refusal as BatchError).applied).toBe(2);
      expect(String(refusal)).toMatch(
        /2 of 4 were applied.*EINVAL.*sizes and flags must be the same/,
      );
      expect([...maps.keys()].sort()).toEqual([0, 1]);
    },
  );

  bpfTest("deleteMany deletes present keys and ignores absent ones", () => {
    const { stack, maps } = filled(8);
    using _stack = stack;
    expect(maps.deleteMany([1, 9, 2, 2, 63])).toBe(2);
    expect([...maps.keys()].sort()).toEqual([0, 3, 4, 5, 6, 7]);
    expect(maps.deleteMany([])).toBe(0);
  });

  bpfTest("entriesInBatches yields arrays of maps that are open during the iteration", () => {
    const { stack, list, maps } = filled(20);
    using _stack = stack;
    const before = openKernelObjects().size;
    const seen: [number, number][] = [];
    const returned: HashMap<typeof t.u32, typeof t.u64Number>[] = [];
    for (const batch of maps.entriesInBatches({ max: 8 })) {
      expect(batch.length).toBe(seen.length < 16 ? 8 : 4);
      for (const [key, map] of batch) {
        seen.push([key, map.get(key) as number]);
        returned.push(map);
      }
    }
    expect(inOrder(seen)).toEqual(list.map((___, key) => [key, key]));
    expect(returned.every(({ disposed }) => disposed)).toBe(true);
    for (const _batch of maps.entriesInBatches()) break;
    expect(openKernelObjects().size).toBe(before);
    expect(() => [...maps.entriesInBatches({ max: 0 })]).toThrow(/max: expected an integer from 1/);
  });

  bpfTest("takeAll takes all maps, and loses none if the loop ends early", () => {
    const { stack, list, maps } = filled(20);
    using _stack = stack;
    // From here on only the outer map keeps them.
    for (const map of list) map[Symbol.dispose]();
    const before = openKernelObjects().size;
    const taken: [number, number][] = [];
    for (const [key, map] of maps.takeAll()) {
      expect(maps.has(key)).toBe(false);
      taken.push([key, map.get(key) as number]);
      if (taken.length === 3) break;
    }
    expect(maps.count()).toBe(17);
    for (const batch of maps.takeAllInBatches({ max: 5 })) {
      for (const [key, map] of batch) taken.push([key, map.get(key) as number]);
      if (taken.length > 10) break;
    }
    expect(maps.count()).toBe(20 - taken.length);
    const [key] = [...maps.keys()] as [number];
    {
      using map = maps.take(key);
      taken.push([key, map?.get(key) as number]);
      expect([maps.has(key), maps.take(key)]).toEqual([false, undefined]);
    }
    for (const batch of maps.takeAllInBatches()) {
      for (const [index, map] of batch) taken.push([index, map.get(index) as number]);
    }
    expect(inOrder(taken)).toEqual(list.map((___, index) => [index, index]));
    expect(maps.count()).toBe(0);
    expect(openKernelObjects().size).toBe(before);
  });

  bpfTest("nextKey returns the next key", () => {
    const { stack, maps } = filled(4);
    using _stack = stack;
    const keys = [];
    for (let key = maps.nextKey(); key !== undefined; key = maps.nextKey(key)) keys.push(key);
    // For an array it returns every index, as the kernel does.
    expect(keys.sort((a, b) => a - b)).toEqual(
      Array.from({ length: maps.type === "hash_of_maps" ? 4 : 64 }, (___, key) => key),
    );
  });
});

bpfTest("batches of maps of maps have fewer open maps than the limit on descriptors", () => {
  using map = new HashMap(inner);
  using hash = new HashOfMaps({ key: t.u32, maxEntries: 200, inner: innerHash });
  using array = new ArrayOfMaps({ length: 200, inner: innerHash });
  const pairs = Array.from({ length: 200 }, (__, key) => [key, map] as const);
  for (const maps of [hash.setMany(pairs), array.setMany(pairs)]) {
    const sizes = (batches: Iterable<unknown[]>) => Array.from(batches, ({ length }) => length);
    expect(sizes(maps.entriesInBatches())).toEqual([64, 64, 64, 8]);
    expect(sizes(maps.takeAllInBatches())).toEqual([64, 64, 64, 8]);
    expect(maps.count()).toBe(0);
  }
});

describe("an array of maps in batches", () => {
  bpfTest("rejects an index outside the array before any change", () => {
    using maps = new ArrayOfMaps({ length: 4, inner: innerHash });
    using map = new HashMap(inner);
    maps.set(1, map);
    const outside = /index of array_of_maps map \d+: expected an integer from 0 to 3, got 4/;
    expect(() =>
      maps.setMany([
        [0, map],
        [4, map],
      ]),
    ).toThrow(outside);
    expect(() => maps.deleteMany([1, 4])).toThrow(outside);
    expect([...maps.keys()]).toEqual([1]);
  });
});

describe("keys of a hash of maps that their type writes differently", () => {
  bpfTest("are looked up, stored and deleted by the keys that an iteration returns", () => {
    using raw = new HashOfMaps({ key: t.bytes(8), maxEntries: 8, inner: innerHash });
    using first = new HashMap(inner);
    using second = new HashMap(inner);
    const keys = ["a\0x", "a\0y", "abcdefgh"].map((text) =>
      Buffer.alloc(8, text, "latin1").fill(0, text.length),
    );
    raw.setMany(keys.map((key) => [key, first]));
    using maps = HashOfMaps.fromFd(raw.fd, { key: t.cstring(8), inner: innerHash });
    for (const [key] of maps) {
      expect([maps.getId(key), maps.has(key), maps.add(key, second)]).toEqual([
        first.id,
        true,
        false,
      ]);
      maps.set(key, second);
    }
    expect(keys.map((key) => raw.getId(key))).toEqual(keys.map(() => second.id));
    expect(maps.deleteMany([...maps.keys()])).toBe(3);
    expect(raw.count()).toBe(0);
    raw.setMany(keys.map((key) => [key, first]));
    expect([...maps.takeAll()].length).toBe(3);
    expect(raw.count()).toBe(0);
  });
});

describe("a hash of maps", () => {
  bpfTest("keeps maps alive, and opens them as objects of their class", () => {
    using maps = outer();
    {
      using first = new HashMap(inner);
      first.set(1, 10);
      expect(maps.set(7, first)).toBe(maps);
      expect(maps.getId(7)).toBe(first.id);
    }
    using opened = maps.get(7);
    expect(opened).toBeInstanceOf(HashMap);
    expect(opened?.toMap()).toEqual(new Map([[1, 10]]));
    expect(maps.get(8)).toBeUndefined();
    expect([maps.has(7), maps.has(8)]).toEqual([true, false]);
  });

  bpfTest("adds, replaces and deletes as hash maps do", () => {
    using maps = outer();
    using a = new HashMap(inner);
    using b = new HashMap(inner);
    expect(maps.replace(1, a)).toBe(false);
    expect(maps.add(1, a)).toBe(true);
    expect(maps.add(1, b)).toBe(false);
    expect(maps.getId(1)).toBe(a.id);
    expect(maps.replace(1, b)).toBe(true);
    expect(maps.getId(1)).toBe(b.id);
    expect([maps.delete(1), maps.delete(1)]).toEqual([true, false]);
    expect(maps.count()).toBe(0);
  });

  bpfTest("opens each map for a loop and disposes of it afterwards", () => {
    using maps = outer();
    using a = new HashMap(inner);
    using b = new HashMap(inner);
    maps.set(1, a).set(2, b);
    const before = openKernelObjects().size;
    const seen = new Map<number, HashMap<t.Type<number>, t.Type<number>>>();
    for (const [key, map] of maps) {
      expect(map.disposed).toBe(false);
      map.set(key, key);
      seen.set(key, map);
    }
    expect([...seen.keys()].sort()).toEqual([1, 2]);
    expect([...seen.values()].every(({ disposed }) => disposed)).toBe(true);
    for (const _entry of maps) break;
    expect(openKernelObjects().size).toBe(before);
    expect([a.get(1), b.get(2)]).toEqual([1, 2]);
    expect(new Map(maps.ids())).toEqual(
      new Map([
        [1, a.id],
        [2, b.id],
      ]),
    );
    expect([...maps.keys()].sort()).toEqual([1, 2]);
    maps.clear();
    expect(maps.count()).toBe(0);
  });

  bpfTest("rejects maps that differ from its template, with the cause", () => {
    using maps = outer();
    using array = new ArrayMap({ value: t.u64Number, length: 8 });
    using wide = new HashMap({ key: t.u64Number, value: t.u64Number, maxEntries: 8 });
    // @ts-expect-error an array is not a hash table
    expect(() => maps.set(1, array)).toThrow(
      /value of hash_of_maps map "outer": expected a hash map, got the array map/,
    );
    expect(() => maps.set(1, wide)).toThrow(BpfError);
    expect(() => maps.set(1, wide)).toThrow(
      /cannot store the hash map \d+ in hash_of_maps map "outer": .*EINVAL.*sizes and flags must be the same/,
    );
    // @ts-expect-error a number is not a map
    expect(() => maps.set(1, 5)).toThrow(/expected a map, got 5/);
    expect(maps.count()).toBe(0);
  });

  bpfTest("throws E2BIG if it is full", () => {
    using maps = outer();
    using map = new HashMap(inner);
    for (let key = 0; key < 4; key++) maps.set(key, map);
    expect(() => maps.set(9, map)).toThrow(/E2BIG.*The map is full/);
    expect(maps.count()).toBe(4);
  });

  bpfTest("is read by programs, which see a replaced map at once", () => {
    using maps = outer();
    const { r0, r1, r2, fp } = asm;
    using program = new Program({
      section: "socket",
      license: "GPL",
      maps: { maps },
      code: [
        asm.stw(fp, -4, 7),
        asm.ldMap(r1, "maps"),
        asm.mov(r2, fp),
        asm.add(r2, -4),
        asm.call("map_lookup_elem"),
        asm.jeq(r0, 0, "none"),
        asm.mov(r1, r0),
        asm.mov(r2, fp),
        asm.add(r2, -4),
        asm.call("map_lookup_elem"),
        asm.jeq(r0, 0, "none"),
        asm.ldxdw(r0, r0, 0),
        asm.exit(),
        asm.label("none"),
        asm.mov(r0, 0),
        asm.exit(),
      ],
    });
    const run = () => program.testRun({ data: new Uint8Array(14) }).returnValue;
    expect(run()).toBe(0);
    for (const value of [5, 6]) {
      using map = new HashMap(inner);
      maps.set(7, map.set(7, value));
      expect(run()).toBe(value);
    }
  });

  bpfTest("behaves like a Map of ids", () => {
    withRandom((random) => {
      using maps = new HashOfMaps({
        key: t.bytes(5),
        maxEntries: 40,
        inner: { type: "queue", value: t.u32, maxEntries: 1 },
      });
      const queues = Array.from({ length: 3 }, () => new Queue({ value: t.u32, maxEntries: 1 }));
      const keys = Array.from({ length: 40 }, (_, i) =>
        Uint8Array.of(i, 1, 2, 3, random.below(256)),
      );
      const model = new Map<string, number>();
      for (let step = 0; step < repetitions(400); step++) {
        const key = random.pick(keys);
        const hex = key.toHex();
        const queue = random.pick(queues);
        const isPresent = model.has(hex);
        switch (random.below(5)) {
          case 0:
            expect(maps.delete(key)).toBe(model.delete(hex));
            break;
          case 1:
            expect(maps.add(key, queue)).toBe(!isPresent);
            if (!isPresent) model.set(hex, queue.id);
            break;
          case 2:
            expect(maps.replace(key, queue)).toBe(isPresent);
            if (isPresent) model.set(hex, queue.id);
            break;
          case 3:
            maps.set(key, queue);
            model.set(hex, queue.id);
            break;
          default:
            expect(maps.getId(key)).toBe(model.get(hex));
            expect(maps.has(key)).toBe(isPresent);
        }
      }
      expect(new Map([...maps.ids()].map(([key, id]) => [key.toHex(), id]))).toEqual(model);
      for (const queue of queues) queue[Symbol.dispose]();
    });
  });
});

describe("an array of maps", () => {
  bpfTest("has empty slots, which iteration skips", () => {
    using maps = new ArrayOfMaps({
      length: 1000,
      inner: { type: "array", value: t.u32, length: 2 },
    });
    using map = new ArrayMap({ value: t.u32, length: 2 });
    maps.set(3, map).set(999, map);
    expect([...maps.ids()]).toEqual([
      [3, map.id],
      [999, map.id],
    ]);
    expect([maps.length, maps.count()]).toEqual([1000, 2]);
    expect([maps.delete(3), maps.delete(3)]).toEqual([true, false]);
    expect([...maps.keys()]).toEqual([999]);
    expect(maps.get(5)).toBeUndefined();
    expect(maps.get(5000)).toBeUndefined();
    expect(() => maps.set(1000, map)).toThrow(/expected an integer from 0 to 999, got 1000/);
    maps.clear();
    expect(maps.count()).toBe(0);
  });

  bpfTest("accepts arrays of other lengths only with the flag inner_map", () => {
    using short = new ArrayMap({ value: t.u32, length: 1 });
    using fixed = new ArrayOfMaps({
      length: 1,
      inner: { type: "array", value: t.u32, length: 2 },
    });
    expect(() => fixed.set(0, short)).toThrow(
      /EINVAL.*the length of an array without the flag inner_map/,
    );
    using free = new ArrayOfMaps({
      length: 1,
      inner: { type: "array", value: t.u32, length: 2, flags: ["inner_map"] },
    });
    using long = new ArrayMap({ value: t.u32, length: 9, flags: ["inner_map"] });
    free.set(0, long);
    using opened = free.get(0);
    expect(opened?.length).toBe(9);
  });

  bpfTest("holds a ring buffer for each CPU", () => {
    const ring = { event: t.u64Number, size: 4096 } as const;
    using rings = new ArrayOfMaps({ length: 2, inner: { type: "ringbuf", ...ring } });
    using own = new RingBuf(ring);
    rings.set(1, own);
    using opened = rings.get(1);
    expect(opened).toBeInstanceOf(RingBuf);
    expect(opened?.byteLength).toBe(4096);
  });

  bpfTest("stores and opens maps of every type that can be inside", () => {
    const keyed = { key: t.u32, value: t.u64, maxEntries: 4 } as const;
    const kinds: readonly InnerMapOptions[] = [
      { type: "lru_hash", ...keyed },
      { type: "percpu_hash", ...keyed },
      { type: "lru_percpu_hash", ...keyed },
      { type: "lpm_trie", ...keyed, key: t.cidr4 },
      { type: "queue", value: t.u64, maxEntries: 4 },
      { type: "stack", value: t.u64, maxEntries: 4 },
      { type: "bloom_filter", value: t.u64, maxEntries: 4 },
      { type: "stack_trace", maxEntries: 4 },
      { type: "stack_trace", maxEntries: 4, buildId: true },
      { type: "perf_event_array", length: 4 },
      { type: "cgroup_array", length: 4 },
      { type: "devmap", length: 4 },
      { type: "devmap_hash", maxEntries: 4 },
      { type: "cpumap", length: 1 },
      { type: "xskmap", length: 4 },
      { type: "sockmap", length: 4 },
      { type: "sockhash", key: t.u32, maxEntries: 4 },
      { type: "reuseport_sockarray", length: 4 },
      { type: "sk_storage", value: t.u64 },
      { type: "task_storage", value: t.u64 },
      { type: "cgrp_storage", value: t.u64 },
      { type: "user_ringbuf", event: t.u64, size: 65_536 },
    ];
    // Other tests check that the kernel has what its version should have.
    for (const inner of kinds.filter(({ type }) => features.mapTypes.get(type).available)) {
      using maps = new ArrayOfMaps({ length: 1, inner });
      using own = createMap(inner);
      maps.set(0, own as never);
      using opened = maps.get(0);
      expect([inner.type, opened?.id, opened?.constructor]).toEqual([
        inner.type,
        own.id,
        own.constructor,
      ]);
    }
  });

  bpfTest("holds per-CPU maps", () => {
    const totals = { value: t.u64Number, length: 1 } as const;
    using maps = new ArrayOfMaps({ length: 1, inner: { type: "percpu_array", ...totals } });
    using own = new PerCpuArrayMap(totals);
    maps.set(0, own);
    own.set(
      0,
      possibleCpus().map(() => 2),
    );
    using opened = maps.get(0);
    expect(opened?.sum(0)).toBe(2 * possibleCpus().length);
  });
});

describe("maps of maps", () => {
  bpfTest("are opened again with the types of the inner maps", () => {
    using maps = outer();
    using map = new HashMap(inner);
    maps.set(1, map.set(2, 3));
    const types = { key: t.u32, inner: { type: "hash", key: t.u32, value: t.u64Number } } as const;
    using byId = HashOfMaps.fromId(maps.id, types);
    using byFd = HashOfMaps.fromFd(maps.fd, types);
    using dup = maps.dup();
    for (const same of [byId, byFd, dup]) {
      using opened = same.get(1);
      expect(opened?.get(2)).toBe(3);
    }
    expect(() => ArrayOfMaps.fromFd(maps.fd, { inner: types.inner })).toThrow(/does not fit/);
    // @ts-expect-error the types of the inner maps are missing
    using untyped = HashOfMaps.fromFd(maps.fd, { key: t.u32, inner: { type: "hash" } });
    expect(() => untyped.get(1)).toThrow(/key: expected a type/);
  });

  bpfTest("reject inner maps of another type when they are opened", () => {
    using maps = outer();
    using map = new HashMap(inner);
    maps.set(1, map);
    const wrong = { type: "hash", key: t.u32, value: t.u32 } as const;
    using other = HashOfMaps.fromFd(maps.fd, { key: t.u32, inner: wrong });
    const before = openKernelObjects().size;
    expect(() => other.get(1)).toThrow(/does not fit: valueSize is 8, not 4/);
    expect(openKernelObjects().size).toBe(before);
  });

  bpfTest("reject a map as `inner` and ask for its options", () => {
    using live = new HashMap({ ...inner, name: "live" });
    const make = () => new HashOfMaps({ key: t.u32, maxEntries: 1, inner: live as never });
    expect(make).toThrow(/got the hash map "live": pass the options that describe it/);
  });

  bpfTest("reject unknown options of the inner maps when they are opened", () => {
    using hash = outer();
    using array = new ArrayOfMaps({ length: 1, inner: { type: "array", value: t.u32, length: 1 } });
    const open = (options: object) => () =>
      // Untyped options, as in JavaScript.
      HashOfMaps.fromFd(hash.fd, { key: t.u32, inner: options as never });
    const before = openKernelObjects().size;
    expect(open({ ...innerHash, valeu: t.u64 })).toThrow(/HashMap: unknown option "valeu".*value/);
    expect(open({ ...innerHash, length: 1 })).toThrow(/HashMap: unknown option "length"/);
    const wrong = { type: "array", value: t.u32, maxEntries: 1 } as const;
    expect(() => ArrayOfMaps.fromFd(array.fd, { inner: wrong })).toThrow(/option `length`/);
    expect(openKernelObjects().size).toBe(before);
    // The options of the creation are accepted.
    using _opened = open({ ...innerHash, flags: [], name: "" })();
  });

  bpfTest("check the options of the inner maps, and leave nothing open", () => {
    const before = openKernelObjects().size;
    const make = (options: unknown) => () =>
      // Untyped options, as in JavaScript.
      new HashOfMaps({ key: t.u32, maxEntries: 1, inner: options as never });
    expect(make(undefined)).toThrow(/inner: expected an object such as \{ type: "hash"/);
    expect(make({ type: "hsah", ...inner })).toThrow(/inner: type: .*did you mean "hash"/);
    expect(make({ type: "hash_of_maps" })).toThrow(/can be inside another map/);
    expect(make({ type: "hash", key: t.u32, value: t.u32 })).toThrow(/maxEntries: expected/);
    expect(make({ type: "hash", ...inner, size: 1 })).toThrow(/HashMap: unknown option "size"/);
    expect(make({ type: "array", ...inner })).toThrow(/ArrayMap: unknown option "key"/);
    expect(make({ type: "hash", ...inner, pin: "/sys/fs/bpf/x" })).toThrow(/inner: pin: /);
    expect(openKernelObjects().size).toBe(before);
  });
});
