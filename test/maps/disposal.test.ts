import { describe, expect } from "bun:test";
import { readFileSync } from "node:fs";
import { ArrayMap, DisposedError, HashMap, RingBuf, t } from "../../src/index.ts";
import { bpfTest } from "../support/privilege.ts";
import { countResources } from "../support/resources.ts";

type Hash = HashMap<number, number>;
type Numbers = ArrayMap<number>;

const hash = (): Hash => new HashMap({ key: t.u32, value: t.u32, maxEntries: 4, name: "gone" });
const array = (): Numbers =>
  new ArrayMap({ value: t.u32, maxEntries: 4, mmap: true, name: "gone" });

/** Every method and getter that calls the kernel, for maps of any kind with keys. */
const keyedUses = {
  fd: (map) => map.fd,
  info: (map) => map.info(),
  freeze: (map) => map.freeze(),
  pin: (map) => map.pin("/sys/fs/bpf/gone"),
  unpin: (map) => map.unpin("/sys/fs/bpf/gone"),
  dup: (map) => map.dup(),
  get: (map) => map.get(1),
  has: (map) => map.has(1),
  set: (map) => map.set(1, 1),
  getMany: (map) => map.getMany([]),
  setMany: (map) => map.setMany([]),
  entries: (map) => [...map.entries()],
  keys: (map) => [...map.keys()],
  values: (map) => [...map.values()],
  [Symbol.iterator]: (map) => [...map],
  forEach: (map) => map.forEach(() => {}),
  count: (map) => map.count(),
  toMap: (map) => map.toMap(),
} satisfies Record<string | symbol, (map: Hash | Numbers) => unknown>;

const hashUses: Record<string | symbol, (map: Hash) => unknown> = {
  ...keyedUses,
  add: (map) => map.add(1, 1),
  replace: (map) => map.replace(1, 1),
  delete: (map) => map.delete(1),
  take: (map) => map.take(1),
  deleteMany: (map) => map.deleteMany([]),
  drain: (map) => [...map.drain()],
  clear: (map) => map.clear(),
};

const arrayUses: Record<string | symbol, (map: Numbers) => unknown> = {
  ...keyedUses,
  at: (map) => map.at(99),
  view: (map) => map.view,
};

/** What a disposed map still answers: it was read once, at creation. */
const answersOn = ["id", "name", "type", "keySize", "valueSize", "maxEntries", "flags", "types"];
const others = ["constructor", "disposed", "toString", "length", "stride", Symbol.dispose];
/** Members for subclasses, which are private to the library. */
const internal = [
  "descriptor",
  "duplicateHandle",
  "begin",
  "end",
  "readValue",
  "writeKey",
  "write",
  "find",
  "contains",
  "update",
  "updateMany",
  "remove",
  "removeMany",
  "takeOut",
  "takeElement",
  "findCpu",
  "updateCpu",
  "flagsOf",
  "checkIndex",
  "walk",
  "walked",
];

function membersOf(map: object): (string | symbol)[] {
  const members: (string | symbol)[] = [];
  for (
    let of = Object.getPrototypeOf(map);
    of !== Object.prototype;
    of = Object.getPrototypeOf(of)
  ) {
    members.push(...Reflect.ownKeys(of));
  }
  return members;
}

function testUses<M extends Hash | Numbers>(
  make: () => M,
  uses: Record<string | symbol, (map: M) => unknown>,
): void {
  for (const name of Reflect.ownKeys(uses)) {
    bpfTest(`${String(name)} throws DisposedError`, () => {
      const map = make();
      const { fd, type } = map;
      map[Symbol.dispose]();
      // Another file at the same number must not be mistaken for the map.
      using other = make();
      expect(other.fd).toBe(fd);
      const error = new DisposedError(`${type} map "gone"`);
      expect(() => uses[name]?.(map)).toThrow(error);
      expect(() => uses[name]?.(map)).toThrow(DisposedError);
      expect(other.get(1) ?? 0).toBe(0);
    });
  }

  bpfTest("no other member is left out of these tests", () => {
    using map = make();
    const known = new Set([...Reflect.ownKeys(uses), ...answersOn, ...others, ...internal]);
    expect(membersOf(map).filter((name) => !known.has(name))).toEqual([]);
  });

  bpfTest("what it was is still told, and disposing again does nothing", () => {
    const map = make();
    const before = answersOn.map((name) => map[name as keyof M]);
    expect(map.disposed).toBe(false);
    map[Symbol.dispose]();
    map[Symbol.dispose]();
    expect(map.disposed).toBe(true);
    expect(answersOn.map((name) => map[name as keyof M])).toEqual(before);
    expect(`${map}`).toBe(`${map.type} map "gone"`);
  });
}

describe("after disposal of a hash map", () => testUses(hash, hashUses));
describe("after disposal of an array map", () => testUses(array, arrayUses));

describe("a thousand rounds leave nothing open", () => {
  const failure = new Error("on the way");
  const rounds: Record<string, () => void> = {
    "of a hash map in use": () => {
      using map = hash();
      map
        .setMany([
          [1, 1],
          [2, 2],
        ])
        .set(3, 3)
        .take(1);
      map.deleteMany([2]);
      map.toMap();
      using _dup = map.dup();
    },
    "of an array map with its view": () => {
      using map = array();
      map.set(1, 1).view.setUint32(0, 1, true);
    },
    "of a ring buffer": () => {
      using ring = new RingBuf({ size: 65_536, event: t.u32 });
      ring.drain(() => {});
    },
    "of walks broken off": () => {
      using map = array();
      for (const _entry of map) break;
      for (const _key of map.keys()) break;
    },
    "of walks left by an error": () => {
      const walk = () => {
        using map = array();
        for (const _value of map.values()) throw failure;
      };
      expect(walk).toThrow(failure);
    },
    "of walks over a map that goes meanwhile": () => {
      const map = array();
      const walk = map.entries();
      walk.next();
      map[Symbol.dispose]();
      expect(() => walk.next()).toThrow(DisposedError);
    },
    "of creations that fail": () => {
      expect(() => new HashMap({ key: t.u32, value: t.u32, maxEntries: 0 })).toThrow(RangeError);
      const pin = "/tmp/bun-bpf-no-pin";
      expect(() => new HashMap({ key: t.u32, value: t.u32, maxEntries: 1, pin })).toThrow(/pin/);
      expect(() => new ArrayMap({ value: t.u32, maxEntries: 1, flags: 32 })).toThrow(/EINVAL/);
    },
    "of maps that do not fit": () => {
      using map = hash();
      expect(() => ArrayMap.fromFd(map.fd, { value: t.u32 })).toThrow(/does not fit/);
      expect(() => HashMap.fromId(map.id, { key: t.u64, value: t.u32 })).toThrow(/does not fit/);
      using frozen = array();
      frozen.freeze();
      expect(() => frozen.view).toThrow(/frozen/);
    },
  };
  for (const [name, round] of Object.entries(rounds)) {
    bpfTest(name, () => {
      for (let i = 0; i < 20; i++) round();
      const before = { ...countResources(), lines: mappingLines() };
      for (let i = 0; i < 1000; i++) round();
      const { descriptors, mappings } = countResources();
      expect({ descriptors, mappings }).toEqual({
        descriptors: before.descriptors,
        mappings: before.mappings,
      });
      // The engine's own mappings come and go; a thousand of ours would show.
      expect(mappingLines() - before.lines).toBeLessThan(100);
    });
  }
});

function mappingLines(): number {
  return readFileSync("/proc/self/maps", "utf8").split("\n").length;
}
