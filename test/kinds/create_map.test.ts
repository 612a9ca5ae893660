import { describe, expect, test } from "bun:test";
import {
  ArrayOfMaps,
  BpfMap,
  createMap,
  type CreateMapOptions,
  HashMap,
  HashOfMaps,
  LruHashMap,
  RingBuf,
  StackTraceMap,
  t,
} from "../../src/index.ts";
import { simpleClasses } from "../../src/kinds/classes.ts";
import { bpfTest } from "../support/privilege.ts";
import { mapTest } from "../support/needs.ts";

const keyed = { key: t.u32, value: t.u64, maxEntries: 4 } as const;
const valued = { value: t.u64, maxEntries: 4 } as const;
const inner = { type: "hash", ...keyed } as const;

/** Options for each kind, complete. */
const everyKind: { readonly [N in CreateMapOptions["type"]]: CreateMapOptions & { type: N } } = {
  hash: { type: "hash", ...keyed },
  "lru-hash": { type: "lru-hash", ...keyed },
  "percpu-hash": { type: "percpu-hash", ...keyed },
  "lru-percpu-hash": { type: "lru-percpu-hash", ...keyed },
  array: { type: "array", ...valued, mmap: true },
  "percpu-array": { type: "percpu-array", ...valued },
  "lpm-trie": { type: "lpm-trie", ...keyed, key: t.cidr6 },
  queue: { type: "queue", ...valued },
  stack: { type: "stack", ...valued },
  "bloom-filter": { type: "bloom-filter", ...valued, hashes: 2 },
  ringbuf: { type: "ringbuf", event: t.u64, size: 65_536 },
  "user-ringbuf": { type: "user-ringbuf", event: t.u64, size: 65_536 },
  "stack-trace": { type: "stack-trace", maxEntries: 4, buildId: true },
  "prog-array": { type: "prog-array", maxEntries: 4 },
  "perf-event-array": { type: "perf-event-array" },
  "cgroup-array": { type: "cgroup-array", maxEntries: 4 },
  devmap: { type: "devmap", maxEntries: 4 },
  "devmap-hash": { type: "devmap-hash", maxEntries: 4 },
  cpumap: { type: "cpumap" },
  xskmap: { type: "xskmap", maxEntries: 4 },
  sockmap: { type: "sockmap", maxEntries: 4 },
  sockhash: { type: "sockhash", key: t.u32, maxEntries: 4 },
  "reuseport-sockarray": { type: "reuseport-sockarray", maxEntries: 4 },
  "sk-storage": { type: "sk-storage", value: t.u64 },
  "inode-storage": { type: "inode-storage", value: t.u64 },
  "task-storage": { type: "task-storage", value: t.u64 },
  "cgrp-storage": { type: "cgrp-storage", value: t.u64 },
  arena: { type: "arena", pages: 1 },
  "hash-of-maps": { type: "hash-of-maps", key: t.u32, maxEntries: 4, inner },
  "array-of-maps": { type: "array-of-maps", maxEntries: 4, inner },
};
const classes = {
  ...simpleClasses,
  "hash-of-maps": HashOfMaps,
  "array-of-maps": ArrayOfMaps,
};

describe("a map by the name of its kind", () => {
  for (const options of Object.values(everyKind)) {
    const { type } = options;
    mapTest(type)(`${type} is of its class`, () => {
      let map: BpfMap;
      try {
        map = createMap({ ...options, name: "made" });
      } catch (error) {
        // A kernel may be without the BPF security module, and says so.
        if (type === "inode-storage" && /lsm=/.test(String(error))) return;
        throw error;
      }
      using made = map;
      expect(made).toBeInstanceOf(classes[type as keyof typeof classes]);
      expect([made.type as string, made.name]).toEqual([type, "made"]);
      expect(made.info().type as string).toBe(type);
    });
  }

  bpfTest("is typed by it", () => {
    using recent = createMap({ type: "lru-hash", key: t.ipv4, value: t.u64n, maxEntries: 4 });
    const _recent: LruHashMap<string, number> = recent;
    using ring = createMap({ type: "ringbuf", event: t.u64, size: 4096 });
    const _ring: RingBuf<bigint> = ring;
    using places = createMap({ type: "stack-trace", maxEntries: 4, buildId: true });
    const _places: StackTraceMap<true> = places;
    using addresses = createMap({ type: "stack-trace", maxEntries: 4 });
    const frames: bigint[] | undefined = addresses.get(1);
    using maps = createMap({ type: "array-of-maps", maxEntries: 1, inner });
    using own = createMap(inner);
    maps.set(0, own);
    using opened = maps.get(0);
    const _opened: HashMap<number, bigint> | undefined = opened;
    // @ts-expect-error a ring buffer has no keys
    expect(ring.get).toBeUndefined();
    expect([frames, _recent, _ring, _places, _opened].length).toBe(5);
  });

  test("is refused where there is no such kind, or the options are another's", () => {
    const make = (options: unknown) => () => createMap(options as CreateMapOptions);
    expect(make({ type: "hsah", ...keyed })).toThrow(
      /type: unknown kind of map "hsah": did you mean "hash"/,
    );
    expect(make({ type: "struct-ops" })).toThrow(TypeError);
    expect(make({ ...keyed })).toThrow(/type: unknown kind of map undefined/);
    expect(make(undefined)).toThrow(/createMap: expected options such as/);
    expect(make({ type: "array", ...keyed })).toThrow(/ArrayMap: unknown option "key"/);
    expect(make({ type: "toString" })).toThrow(TypeError);
  });
});
