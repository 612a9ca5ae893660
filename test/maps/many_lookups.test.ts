import { describe, expect } from "bun:test";
import { ArrayMap, DisposedError, HashMap, LpmTrie, LruHashMap, t } from "../../src/index.ts";
import { Btf } from "../../src/index.ts";
import { bpfTest } from "../support/privilege.ts";
import { openKernelObjects } from "../support/leaks.ts";
import { withRandom } from "../types/random.ts";
import { repetitions } from "../support/effort.ts";
import { endWorker } from "../support/end_worker.ts";

/** Number of keys for which a program is loaded. */
const many = 5000;

/** Returns the number of programs that this process has open. */
function programs(): number {
  return [...openKernelObjects().values()].filter((what) => what.includes("bpf-prog")).length;
}

/** True if this kernel has the helper `bpf_loop` (5.17). */
const hasLoop = Btf.kernel().find("func", "bpf_loop") !== undefined;

/** Number of programs that a map has open after look-ups of many keys. */
const expectedPrograms = hasLoop ? 1 : 0;

describe("getMany of many keys", () => {
  for (const [keySize, valueSize] of [
    [4, 8],
    [1, 1],
    [3, 5],
    [8, 7],
    [16, 64],
    [64, 511],
    [512, 512],
    [5, 513],
  ] as const) {
    bpfTest(
      `returns the values of single look-ups: keys of ${keySize}, values of ${valueSize} bytes`,
      () => {
        withRandom((random) => {
          const bytes = (length: number) => Uint8Array.from({ length }, () => random.below(256));
          const types = { key: t.bytes(keySize), value: t.bytes(valueSize) };
          using map = new HashMap({ ...types, maxEntries: 256 });
          const keys = Array.from({ length: 400 }, () => bytes(keySize));
          map.setMany(keys.slice(0, 200).map((key) => [key, bytes(valueSize)]));
          const requested = Array.from({ length: many }, () => random.pick(keys));
          const expected = requested.map((key) => map.get(key));
          expect(map.getMany(requested)).toEqual(expected);
          expect(programs()).toBe(valueSize > 512 ? 0 : expectedPrograms);
          // Values that a run left in the shared memory do not appear in the next one.
          const fewer = requested.slice(0, 17).toReversed();
          expect(map.getMany(fewer)).toEqual(fewer.map((key) => map.get(key)));
          map.clear();
          expect(map.getMany(fewer)).toEqual(fewer.map(() => undefined));
        });
        expect(programs()).toBe(0);
      },
    );
  }

  bpfTest("returns the values of an array, and undefined outside", () => {
    using map = new ArrayMap({ value: t.u64, length: 100 });
    for (let i = 0; i < 100; i++) map.set(i, BigInt(i));
    const keys = Array.from({ length: many }, (_, index) => index % 130);
    expect(map.getMany(keys)).toEqual(keys.map((key) => (key < 100 ? BigInt(key) : undefined)));
    expect(programs()).toBe(expectedPrograms);
  });

  bpfTest("returns the longest matches of a trie", () => {
    using map = new LpmTrie({ key: t.cidr4, value: t.u32, maxEntries: 100 });
    map.set("10.0.0.0/8", 8).set("10.0.3.0/24", 24);
    const keys = Array.from(
      { length: many },
      (_, index) => `${10 + (index % 2)}.0.${index % 7}.1/32`,
    );
    expect(map.getMany(keys)).toEqual(keys.map((key) => map.get(key)));
    expect(programs()).toBe(expectedPrograms);
  });

  bpfTest("looks up key by key if a look-up by a program would count as use", () => {
    using map = new LruHashMap({ key: t.u32, value: t.u32, maxEntries: 1024 });
    map.set(1, 2);
    expect(map.getMany(new Array(many).fill(1))).toEqual(new Array(many).fill(2));
    expect(programs()).toBe(0);
  });

  bpfTest("looks up key by key if programs may not read, or if the value has a lock", () => {
    using hidden = new HashMap({ key: t.u32, value: t.u32, maxEntries: 4, flags: ["wronly_prog"] });
    const value = t.struct({ lock: t.spinLock, count: t.u32 });
    using locked = new HashMap({ key: t.u32, value, maxEntries: 4 });
    hidden.set(1, 2);
    locked.set(1, { count: 3 });
    expect(hidden.getMany(new Array(many).fill(1))).toEqual(new Array(many).fill(2));
    expect(locked.getMany(new Array(many).fill(1))).toEqual(new Array(many).fill({ count: 3 }));
    expect(programs()).toBe(0);
  });

  bpfTest("fails for a descriptor that may not read, for any number of keys", () => {
    using map = new HashMap({ key: t.u32, value: t.u32, maxEntries: 4, flags: ["wronly"] });
    map.set(1, 2);
    for (const count of [1, 20, many, many]) {
      expect(() => map.getMany(new Array<number>(count).fill(1))).toThrow(/EPERM/);
    }
    expect(programs()).toBe(0);
  });

  bpfTest("returns whole integers while others change them", async () => {
    using map = new ArrayMap({ value: t.u32, length: 64, mmap: true });
    const state = new Int32Array(new SharedArrayBuffer(8));
    const worker = new Worker(new URL("./children/store_integers.ts", import.meta.url));
    const { promise, resolve } = Promise.withResolvers<void>();
    worker.onmessage = () => resolve();
    worker.postMessage({ fd: map.fd, state });
    while (Atomics.load(state, 0) === 0) await Bun.sleep(1);
    const keys = Array.from({ length: 1024 }, (_, index) => index % 64);
    const seen = new Set<number | undefined>();
    for (let round = 0; round < repetitions(3000); round++)
      for (const value of map.getMany(keys)) seen.add(value);
    Atomics.store(state, 1, 1);
    await promise;
    await endWorker(worker);
    expect([...seen].filter((value) => value !== 0 && value !== 0xffffffff)).toEqual([]);
    expect(seen.size).toBe(2);
  });

  bpfTest("loads no program for few keys", () => {
    using map = new HashMap({ key: t.u32, value: t.u32, maxEntries: 4 });
    expect(map.getMany([1, 2, 3])).toEqual([undefined, undefined, undefined]);
    expect(programs()).toBe(0);
  });

  bpfTest("rejects a wrong key as a single look-up does, and works afterwards", () => {
    using map = new HashMap({ key: t.u32, value: t.u32, maxEntries: 4, name: "few" });
    const keys = new Array<number>(many).fill(7);
    map.set(7, 8);
    map.getMany(keys);
    expect(() => map.getMany([...keys, -1])).toThrow(
      /^key 5000 of hash map "few": expected an integer from 0 to 4294967295/,
    );
    expect(map.getMany(keys)).toEqual(keys.map(() => 8));
    expect(programs()).toBe(expectedPrograms);
  });

  bpfTest("works if decoding a value calls getMany of the same map", () => {
    const nested: (number | undefined)[][] = [];
    const keys = Array.from({ length: many }, (_, index) => index % 8);
    const value = t.custom<number>({
      size: 4,
      align: 4,
      read(view, offset) {
        const own = view.getUint32(offset, true);
        if (nested.length === 0 && own === 5) {
          nested.push([]);
          nested[0] = map.getMany(keys.slice(0, 100));
        }
        return own;
      },
      write: (view, offset, number) => view.setUint32(offset, number, true),
    });
    using map: HashMap<t.Type<number>, t.Type<number>> = new HashMap({
      key: t.u32,
      value,
      maxEntries: 8,
    });
    for (let key = 0; key < 8; key++) map.set(key, key);
    expect(map.getMany(keys)).toEqual(keys);
    expect(nested).toEqual([keys.slice(0, 100)]);
  });

  bpfTest("throws after disposal of the map, also during the call", () => {
    let isLast = false;
    const key = t.custom<number>({
      size: 4,
      align: 4,
      read: (view, offset) => view.getUint32(offset, true),
      write(view, offset, number) {
        if (isLast && number === 99) map[Symbol.dispose]();
        view.setUint32(offset, number, true);
      },
    });
    const map: HashMap<t.Type<number>, t.Type<number>> = new HashMap({
      key,
      value: t.u32,
      maxEntries: 8,
    });
    const keys = Array.from({ length: many }, (_, index) => index % 100);
    map.getMany(keys);
    isLast = true;
    expect(() => map.getMany(keys)).toThrow(DisposedError);
    expect(() => map.getMany(keys)).toThrow(DisposedError);
    expect(programs()).toBe(0);
  });
});
