import { describe, expect, test } from "bun:test";
import * as library from "../../src/index.ts";
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
import { MapKind } from "../../src/maps/map_options.ts";
import { mapTypes } from "../../src/maps/map_types.ts";
import { bpfTest } from "../support/privilege.ts";
import { mapTest } from "../support/needs.ts";

const keyed = { key: t.u32, value: t.u64, maxEntries: 4 } as const;
const valued = { value: t.u64, maxEntries: 4 } as const;
const indexed = { value: t.u64, length: 4 } as const;
const inner = { type: "hash", ...keyed } as const;

/** Complete options for each map type. */
const everyKind: { readonly [N in CreateMapOptions["type"]]: CreateMapOptions & { type: N } } = {
  hash: { type: "hash", ...keyed },
  lru_hash: { type: "lru_hash", ...keyed },
  percpu_hash: { type: "percpu_hash", ...keyed },
  lru_percpu_hash: { type: "lru_percpu_hash", ...keyed },
  array: { type: "array", ...indexed, mmap: true },
  percpu_array: { type: "percpu_array", ...indexed },
  lpm_trie: { type: "lpm_trie", ...keyed, key: t.cidr6 },
  queue: { type: "queue", ...valued },
  stack: { type: "stack", ...valued },
  bloom_filter: { type: "bloom_filter", ...valued, hashes: 2 },
  ringbuf: { type: "ringbuf", event: t.u64, size: 65_536 },
  user_ringbuf: { type: "user_ringbuf", event: t.u64, size: 65_536 },
  stack_trace: { type: "stack_trace", maxEntries: 4, buildId: true },
  prog_array: { type: "prog_array", length: 4 },
  perf_event_array: { type: "perf_event_array" },
  cgroup_array: { type: "cgroup_array", length: 4 },
  devmap: { type: "devmap", length: 4 },
  devmap_hash: { type: "devmap_hash", maxEntries: 4 },
  cpumap: { type: "cpumap" },
  xskmap: { type: "xskmap", length: 4 },
  sockmap: { type: "sockmap", length: 4 },
  sockhash: { type: "sockhash", key: t.u32, maxEntries: 4 },
  reuseport_sockarray: { type: "reuseport_sockarray", length: 4 },
  sk_storage: { type: "sk_storage", value: t.u64 },
  inode_storage: { type: "inode_storage", value: t.u64 },
  task_storage: { type: "task_storage", value: t.u64 },
  cgrp_storage: { type: "cgrp_storage", value: t.u64 },
  arena: { type: "arena", pages: 1 },
  hash_of_maps: { type: "hash_of_maps", key: t.u32, maxEntries: 4, inner },
  array_of_maps: { type: "array_of_maps", length: 4, inner },
};
const classes = {
  ...simpleClasses,
  hash_of_maps: HashOfMaps,
  array_of_maps: ArrayOfMaps,
};

describe("the table of classes", () => {
  test("has each public class, under its map type", () => {
    // Classes that share their map type with another class.
    const others = ["PerfBuffer"];
    const publicNames = Object.entries(library as Readonly<Record<string, { kind?: unknown }>>)
      .filter(([name, { kind }]) => kind instanceof MapKind && !others.includes(name))
      .map(([name]) => name);
    expect(publicNames.sort()).toEqual(
      Object.values(classes)
        .map(({ name }) => name)
        .sort(),
    );
    for (const [type, { kind }] of Object.entries(classes)) expect(kind.type as string).toBe(type);
  });
});

describe("the spec of a map", () => {
  for (const { type, ...options } of Object.values(everyKind)) {
    test(`of type ${type} is plain data`, () => {
      // The table has checked the options against the type.
      const spec = classes[type].kind.spec({ ...options, name: "made" } as never);
      expect(structuredClone(spec)).toEqual(spec);
      expect([spec.type, spec.name]).toEqual([type, "made"]);
      expect(JSON.parse(JSON.stringify(spec))).toMatchObject({ keySize: spec.keySize });
      const required = mapTypes.get(type)?.flags ?? 0;
      expect(spec.flags & required, "flags that the kernel asks for").toBe(required);
    });
  }

  test("has areRequired if the kernel requires the types of keys and values", () => {
    const { kind } = HashMap;
    const plain = kind.spec({ key: t.u32, value: t.u64, maxEntries: 1 });
    const locked = t.struct({ lock: t.spinLock, count: t.u32 });
    const account = kind.spec({ key: t.u32, value: locked, maxEntries: 1 });
    expect([plain.types?.areRequired, account.types?.areRequired]).toEqual([false, true]);
    expect(RingBuf.kind.spec({ event: t.u32, size: 65_536 }).types).toBeUndefined();
  });
});

describe("createMap", () => {
  for (const options of Object.values(everyKind)) {
    const { type } = options;
    mapTest(type)(`returns an object of the class for ${type}`, () => {
      let map: BpfMap;
      try {
        map = createMap({ ...options, name: "made" });
      } catch (error) {
        // The BPF security module may be inactive.
        if (type === "inode_storage" && /lsm=/.test(String(error))) return;
        throw error;
      }
      using made = map;
      expect(made).toBeInstanceOf(classes[type as keyof typeof classes]);
      expect([made.type as string, made.name]).toEqual([type, "made"]);
      expect(made.info().type as string).toBe(type);
    });
  }

  bpfTest("infers the types from the options", () => {
    using recent = createMap({ type: "lru_hash", key: t.ipv4, value: t.u64Number, maxEntries: 4 });
    const _recent: LruHashMap<t.Type<string>, t.Type<number>> = recent;
    using ring = createMap({ type: "ringbuf", event: t.u64, size: 4096 });
    const _ring: RingBuf<t.Type<bigint>> = ring;
    using places = createMap({ type: "stack_trace", maxEntries: 4, buildId: true });
    const _places: StackTraceMap<true> = places;
    using addresses = createMap({ type: "stack_trace", maxEntries: 4 });
    const frames: bigint[] | undefined = addresses.get(1);
    using maps = createMap({ type: "array_of_maps", length: 1, inner });
    using own = createMap(inner);
    maps.set(0, own);
    using opened = maps.get(0);
    const _opened: HashMap<t.Type<number>, t.Type<bigint>> | undefined = opened;
    // @ts-expect-error a ring buffer has no keys
    expect(ring.get).toBeUndefined();
    expect([frames, _recent, _ring, _places, _opened].length).toBe(5);
  });

  test("rejects unknown map types, and options of others", () => {
    const make = (options: unknown) => () => createMap(options as CreateMapOptions);
    expect(make({ type: "hsah", ...keyed })).toThrow(
      /type: unknown map type "hsah": did you mean "hash"/,
    );
    expect(make({ type: "struct_ops" })).toThrow(TypeError);
    expect(make({ ...keyed })).toThrow(/type: unknown map type undefined/);
    expect(make(undefined)).toThrow(/createMap: expected options such as/);
    expect(make({ type: "array", ...keyed })).toThrow(/ArrayMap: unknown option "key"/);
    expect(make({ type: "toString" })).toThrow(TypeError);
  });
});
