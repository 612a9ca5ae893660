import { describe, expect } from "bun:test";
import { readFileSync } from "node:fs";
import { Descriptor, duplicate } from "../../src/ffi/descriptor.ts";
import { MapBatch } from "../../src/ffi/bpf_map_batch.ts";
import { allocateScratch } from "../../src/ffi/mapped_memory.ts";
import { BpfError, DevMap, HashMap, LpmTrie, t } from "../../src/index.ts";
import { openMapHandle } from "../../src/maps/create.ts";
import { DEVMAP_HASH } from "../../src/maps/map_types.ts";
import { BatchWalk, type Walk } from "../../src/maps/walk.ts";
import { bpfTest } from "../support/privilege.ts";
import { adopt } from "./adopt.ts";
import { BatchlessMap, batchlessMap } from "./batchless.ts";
import { KeyByKeyTrie } from "./key_by_key_trie.ts";
import { repetitions } from "../support/effort.ts";
import { isKernelSince } from "../../src/ffi/kernel.ts";

/** Returns the size of this process's address space in bytes. */
function addressSpace(): number {
  const kilobytes = /^VmSize:\s*(\d+) kB$/m.exec(readFileSync("/proc/self/status", "utf8"))?.[1];
  return Number(kilobytes) * 1024;
}

const mebibyte = 1024 * 1024;

/** Addresses of the next blocks of scratch memory, of each size that a call on one small element uses. */
function freeScratch(): readonly number[] {
  using stack = new DisposableStack();
  return [64, 128, 256, 512].map((size) => stack.use(allocateScratch(size)).address);
}

describe("the size of the memory of a walk", () => {
  bpfTest("grows if a bucket has more entries than fit", () => {
    using map = new HashMap({
      key: t.u64Number,
      value: t.u32,
      maxEntries: 4096,
      flags: ["zero_seed"],
    });
    map.setMany(Array.from({ length: 4096 }, (_, key) => [key, key + 1] as const));
    using descriptor = new Descriptor(duplicate(map.fd, "map"), "map");
    using batch = new MapBatch(descriptor, map.keySize, map.valueSize, 1, "map");
    const seen = new Map<number, number>();
    for (let result = "more"; result === "more";) {
      result = batch.lookup(0);
      for (let i = 0; i < batch.count; i++) {
        const key = t.u64Number.read(batch.view, batch.keyOffset(i));
        expect(seen.has(key)).toBe(false);
        seen.set(key, t.u32.read(batch.view, batch.valueOffset(i)));
      }
    }
    expect(seen).toEqual(map.toMap());
    // Of 4096 keys in as many buckets, the fullest bucket has about 6.
    expect(batch.capacity).toBeWithin(2, 65);
  });

  bpfTest("has room for at least one entry of any size", () => {
    const value = t.bytes(300 * 1024);
    using map = new HashMap({ key: t.u32, value, maxEntries: 32, flags: ["no_prealloc"] });
    for (let key = 0; key < 32; key++) map.set(key, new Uint8Array(value.size).fill(key + 1));
    let right = 0;
    for (const [key, bytes] of map) if (bytes[0] === key + 1 && bytes.at(-1) === key + 1) right++;
    expect(right).toBe(32);
    map.clear();
    expect(map.count()).toBe(0);
  });

  bpfTest("does not depend on maxEntries alone", () => {
    // An LPM trie accepts the largest `maxEntries`, or the number that fits 4 GiB on kernels that check that. Its batches
    // continue from a key, here one of 20 bytes.
    const maxEntries = isKernelSince("5.11") ? 2 ** 32 - 1 : 2 ** 25;
    using map = new LpmTrie({ key: t.cidr6, value: t.u32, maxEntries });
    expect(map.maxEntries).toBe(maxEntries);
    for (let i = 0; i < 1000; i++) map.set(`fd00:${i}::/32`, i);
    const before = addressSpace();
    const walk = map.entries();
    expect(walk.next().done).toBe(false);
    expect(addressSpace() - before).toBeLessThan(16 * mebibyte);
    expect([...walk]).toHaveLength(999);
    map.clear();
    expect(map.count()).toBe(0);
  });
});

describe("the memory of a walk", () => {
  // A walk takes at most 256 KiB: a thousand walks that kept it would take 250 MiB.
  const bytes = 1024;
  function full() {
    const map = new HashMap({ key: t.u32, value: t.bytes(bytes), maxEntries: 512 });
    return map.setMany(Array.from({ length: 512 }, (_, key) => [key, new Uint8Array(bytes)]));
  }

  const endings: readonly [string, (map: ReturnType<typeof full>) => void][] = [
    ["that ends", (map) => void map.count()],
    [
      "that breaks",
      (map) => {
        let steps = 0;
        for (const _entry of map) if (++steps > 400) break;
      },
    ],
    [
      "that ends with an error",
      (map) => {
        let steps = 0;
        const fail = () => {
          for (const _key of map.keys()) if (++steps > 400) throw new Error("left");
        };
        expect(fail).toThrow("left");
      },
    ],
  ];
  for (const [name, walk] of endings) {
    bpfTest(`is freed at once by a walk ${name}`, () => {
      using map = full();
      walk(map);
      const before = addressSpace();
      for (let round = 0; round < repetitions(1000); round++) walk(map);
      expect(addressSpace() - before).toBeLessThan(64 * mebibyte);
    });
  }

  bpfTest("is freed by the garbage collection of an unfinished walk", () => {
    using map = full();
    const before = addressSpace();
    for (let round = 0; round < repetitions(1000); round++) {
      const walk = map.values();
      for (let i = 0; i < 70; i++) walk.next();
      if (round % 100 === 0) Bun.gc(true);
    }
    Bun.gc(true);
    expect(addressSpace() - before).toBeLessThan(64 * mebibyte);
  });

  // The memory for one element is a page: with that for a chunk, 8,000 walks that kept it would take 64 MiB.
  const unbatched: Record<string, () => Disposable & { keys(): Iterator<unknown> }> = {
    "a map without batches": () => batchlessMap(8).set(1, 1),
    "a trie key by key": () => {
      const trie = new KeyByKeyTrie({ key: t.cidr4, value: t.u32, maxEntries: 8 });
      return trie.set("10.0.0.0/8", 1);
    },
    "the indexes of an array": () => new DevMap({ length: 8 }).set(3, "lo"),
  };
  for (const [name, create] of Object.entries(unbatched)) {
    bpfTest(`over ${name} is freed at once if the loop breaks`, () => {
      using map = create();
      const before = addressSpace();
      for (let round = 0; round < repetitions(8000); round++) {
        for (const _key of { [Symbol.iterator]: () => map.keys() }) break;
      }
      expect(addressSpace() - before).toBeLessThan(16 * mebibyte);
    });

    bpfTest(`over ${name} is freed by garbage collection too`, () => {
      using map = create();
      const scratch = freeScratch();
      const before = addressSpace();
      for (let round = 0; round < repetitions(8000); round++) {
        map.keys().next();
        if (round % 1000 === 0) Bun.gc(true);
      }
      Bun.gc(true);
      expect(addressSpace() - before).toBeLessThan(32 * mebibyte);
      // Only disposal returns scratch memory: an abandoned walk must not have taken any.
      expect(freeScratch()).toEqual(scratch);
    });
  }
});

/** Creates a map without batches, as one in a network device, of a class whose map type has them. */
class Offloaded extends BatchlessMap<number, number> {
  protected override walk(): Walk {
    return new BatchWalk(this.elements.walked);
  }
}

describe("a map without the batches that its type has", () => {
  const refusal = (call: string) =>
    `cannot iterate over devmap_hash map "batchless": bpf(${call}): ENOTSUPP (operation is not supported). The map has no batch operations, like maps offloaded to a network device`;

  bpfTest("cannot be iterated, and the error has the cause", () => {
    using made = batchlessMap(8).set(1, 1);
    using map = new Offloaded(made.fd, { key: t.u32, value: t.u32 });
    for (const use of [() => [...map], () => map.count(), () => map.clear()]) {
      expect(use).toThrow(BpfError);
      expect(use).toThrow(refusal("BPF_MAP_LOOKUP_BATCH"));
    }
    expect(map.get(1)).toBe(1);
  });

  bpfTest("rejects takeAllInBatches(), and stores and deletes many entries one by one", () => {
    using made = batchlessMap(8).set(1, 1);
    using map = adopt(
      HashMap<typeof t.u32, typeof t.u32>,
      openMapHandle(DEVMAP_HASH, { fd: made.fd }, {}, { key: t.u32, value: t.u32 }),
    );
    expect(() => [...map.takeAllInBatches()]).toThrow(refusal("BPF_MAP_LOOKUP_AND_DELETE_BATCH"));
    map.setMany([
      [2, 1],
      [3, 1],
    ]);
    expect(map.deleteMany([2, 7, 1])).toBe(2);
    expect([...map.takeAll()]).toEqual([[3, 1]]);
  });
});

describe("a walk by keys", () => {
  bpfTest("returns every entry that stays once while entries ahead of it are deleted", () => {
    using map = batchlessMap(400);
    for (let key = 1; key <= 400; key++) map.set(key, 1);
    const order = [...map.keys()];
    const seen = new Map<number, number>();
    const deleted = new Set<number>();
    for (const key of map.keys()) {
      seen.set(key, (seen.get(key) ?? 0) + 1);
      // At the end of each chunk the walk has the next key already: delete that key and the one before.
      const next = order[order.indexOf(key) + 1];
      if (seen.size % 64 !== 0 || next === undefined) continue;
      for (const victim of [key, next]) if (map.delete(victim)) deleted.add(victim);
    }
    expect(deleted.size).toBeGreaterThan(4);
    const stayed = order.filter((key) => !deleted.has(key));
    expect(stayed.filter((key) => seen.get(key) !== 1)).toEqual([]);
  });

  bpfTest("continues if all returned entries are deleted", () => {
    using map = batchlessMap(400);
    for (let key = 1; key <= 400; key++) map.set(key, 1);
    const seen = new Set<number>();
    for (const key of map.keys()) {
      seen.add(key);
      if (seen.size % 64 === 0) map.deleteMany(seen);
    }
    expect(seen.size).toBe(400);
  });
});
