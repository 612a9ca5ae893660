import { describe, expect } from "bun:test";
import { readFileSync } from "node:fs";
import { allocateScratch } from "../../src/ffi/mapped_memory.ts";
import {
  ArrayMap,
  type BpfMap,
  DisposedError,
  HashMap,
  LpmTrie,
  PerCpuHashMap,
  possibleCpus,
  Queue,
  RingBuf,
  t,
} from "../../src/index.ts";
import { bpfTest } from "../support/privilege.ts";
import { countResources } from "../support/resources.ts";
import { answersOn, others, protectedNames, subjects } from "./disposal_uses.ts";
import { repetitions } from "../support/effort.ts";
import { mapTest } from "../support/needs.ts";

/** Test of a class whose map type some kernels lack. */
function testOf(className: string): typeof bpfTest {
  return className === "BloomFilter" ? mapTest("bloom_filter") : bpfTest;
}

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

/** Returns a disposed map, and another one with the same descriptor number, which calls on the first must not reach. */
function replaced<M extends BpfMap>(create: () => M, maps: DisposableStack): { map: M; other: M } {
  // Other threads of this process open and close descriptors too: those of the engine, or of a Worker that ends.
  for (let attempt = 0; attempt < 100; attempt++) {
    const map = create();
    const { fd } = map;
    map[Symbol.dispose]();
    const other = maps.use(create());
    if (other.fd === fd) return { map, other };
  }
  throw new Error("no map got the number of the one before");
}

describe.each(Object.entries(subjects))("after disposal of %s", (className, subject) => {
  const { create, uses, contents } = subject;

  for (const name of Reflect.ownKeys(uses)) {
    testOf(className)(`${String(name)} throws DisposedError`, () => {
      using maps = new DisposableStack();
      const { map, other } = replaced(create, maps);
      const { type } = other;
      const before = contents(other);
      const error = new DisposedError(`${type} map "gone"`);
      expect(() => uses[name]?.(map)).toThrow(error);
      expect(() => uses[name]?.(map)).toThrow(DisposedError);
      expect(contents(other)).toEqual(before);
    });
  }

  testOf(className)("all other members are known to these tests", () => {
    using map = create();
    const known = new Set([...Reflect.ownKeys(uses), ...answersOn, ...others, ...protectedNames()]);
    expect(membersOf(map).filter((name) => !known.has(name))).toEqual([]);
  });

  testOf(className)("its properties remain readable, and a second disposal does nothing", () => {
    const map = create();
    const answers = () => answersOn.map((name) => Reflect.get(map, name) as unknown);
    const before = answers();
    expect(map.disposed).toBe(false);
    map[Symbol.dispose]();
    map[Symbol.dispose]();
    expect(map.disposed).toBe(true);
    expect(answers()).toEqual(before);
    expect(before).not.toContain(undefined);
    expect(`${map}`).toBe(`${map.type} map "gone"`);
  });
});

function mappingLines(): number {
  return readFileSync("/proc/self/maps", "utf8").split("\n").length;
}

/** Fails if many rounds leave more descriptors or mappings open than a few rounds did. */
function expectNothingLeft(rounds: number, round: () => void): void {
  for (let i = 0; i < 20; i++) round();
  const before = { ...countResources(), lines: mappingLines() };
  for (let i = 0; i < rounds; i++) round();
  const { descriptors, mappings } = countResources();
  expect({ descriptors, mappings }).toEqual({
    descriptors: before.descriptors,
    mappings: before.mappings,
  });
  // The number of the engine's own mappings varies, but by less than a thousand.
  expect(mappingLines() - before.lines).toBeLessThan(100);
}

// A hundred thousand for all classes together.
describe.each(Object.entries(subjects))("ten thousand maps", (name, { create }) => {
  testOf(name)(`of ${name} leave no descriptor open`, () => {
    expectNothingLeft(repetitions(10_000, 100), () => create()[Symbol.dispose]());
  });
});

/** Addresses of the next blocks of memory for calls, of all sizes that small maps use. */
function freeScratch(): readonly number[] {
  using stack = new DisposableStack();
  return [64, 128, 256, 512, 1024]
    .flatMap((size) => Array.from({ length: 50 }, () => stack.use(allocateScratch(size)).address))
    .sort((a, b) => a - b);
}

describe.each(Object.entries(subjects))("a hundred maps", (name, { create, contents }) => {
  testOf(name)(`of ${name} free the memory for their calls`, () => {
    const round = () => {
      using map = create();
      contents(map);
    };
    round();
    const before = freeScratch();
    for (let i = repetitions(100, 20); i > 0; i--) round();
    expect(freeScratch()).toEqual(before);
  });
});

const hash = () => new HashMap({ key: t.u32, value: t.u32, maxEntries: 4, name: "gone" });
const array = () => new ArrayMap({ value: t.u32, length: 4, mmap: true, name: "gone" });

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
    "of an array map that may not be read, with its view": () => {
      using map = new ArrayMap({ value: t.u32, length: 4, mmap: true, flags: ["wronly"] });
      expect(() => map.view).toThrow(/EACCES/);
    },
    "of an array map with its read-only view": () => {
      using map = array();
      expect(map.set(1, 7).freeze().view.getUint32(8, true)).toBe(7);
    },
    "of an array map with its view": () => {
      using map = array();
      map.set(1, 1).view.setUint32(0, 1, true);
    },
    "of per-CPU values, including large ones": () => {
      for (const size of [7, 32 * 1024]) {
        using map = new PerCpuHashMap({ key: t.u32, value: t.bytes(size), maxEntries: 1 });
        map.set(
          1,
          possibleCpus().map(() => new Uint8Array(size)),
        );
        map.setMany(map).take(1);
      }
    },
    "of a trie with unfinished iterations": () => {
      using trie = new LpmTrie({ key: t.cidr4, value: t.u32, maxEntries: 4 });
      trie.set("10.0.0.0/8", 1);
      for (const _key of trie.keys()) break;
      for (const _entry of trie.takeAll()) break;
      trie.clear();
    },
    "of a queue whose takeAll loop ends early": () => {
      using queue = new Queue({ value: t.u32, maxEntries: 4 });
      queue.push(1).push(2);
      for (const _value of queue.takeAll()) break;
      queue.clear();
    },
    "of a ring buffer": () => {
      using ring = new RingBuf({ size: 65_536, event: t.u32 });
      ring.drain(() => {});
    },
    "of iterations that break": () => {
      using map = array();
      for (const _entry of map) break;
      for (const _key of map.keys()) break;
    },
    "of iterations that end with an error": () => {
      const walk = () => {
        using map = array();
        for (const _value of map.values()) throw failure;
      };
      expect(walk).toThrow(failure);
    },
    "of iterations over a map that is disposed of meanwhile": () => {
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
      expect(() => new ArrayMap({ value: t.u32, length: 1, flags: 32 })).toThrow(/EINVAL/);
    },
    "of existing maps that do not match": () => {
      using map = hash();
      expect(() => ArrayMap.fromFd(map.fd, { value: t.u32 })).toThrow(/does not fit/);
      expect(() => HashMap.fromId(map.id, { key: t.u64, value: t.u32 })).toThrow(/does not fit/);
      using frozen = array();
      frozen.freeze();
      expect(() => frozen.view.setUint8(0, 1)).toThrow(/frozen/);
    },
  };
  for (const [name, round] of Object.entries(rounds)) {
    bpfTest(name, () => {
      expectNothingLeft(repetitions(1000, 50), round);
    });
  }
});
