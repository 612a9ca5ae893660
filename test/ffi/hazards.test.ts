// Tests for each way in which bun:ffi crashed or corrupted data in a prototype of this library. The test for munmap during an
// asynchronous operation is in mapped_memory.test.ts.
import { describe, expect } from "bun:test";
import { ArrayMap, HashMap, t } from "../../src/index.ts";
import { bpfTest } from "../support/privilege.ts";
import { isGuest } from "../support/skipping.ts";
import { runBun } from "../support/run.ts";
import { wrongErrnos } from "./failing_calls.ts";
import { repetitions } from "../support/effort.ts";
import { endWorker } from "../support/end_worker.ts";

const Key = t.struct({ a: t.u32, b: t.u64Number, name: t.cstring(12) });
const Value = t.struct({ count: t.u64Number, bytes: t.bytes(20) });

/** Starts a Worker with a file in children/, and waits until it is ready. */
async function startWorker(name: string): Promise<Worker> {
  const worker = new Worker(new URL(`children/${name}`, import.meta.url));
  await nextMessage(worker);
  return worker;
}

function nextMessage(worker: Worker): Promise<unknown> {
  const { promise, resolve, reject } = Promise.withResolvers<unknown>();
  worker.addEventListener("message", ({ data }) => resolve(data), { once: true });
  worker.addEventListener("error", ({ message }) => reject(new Error(message)), { once: true });
  return promise;
}

describe("memory whose address is passed to the kernel", () => {
  bpfTest("does not move: 300,000 calls during forced garbage collections", () => {
    using map = new HashMap({ key: Key, value: Value, maxEntries: 1024 });
    let wrong = 0;
    let garbage: unknown[] = [];
    for (let i = 0; i < repetitions(150_000, 30_000); i++) {
      // Keys and values are garbage after each call.
      const n = i & 1023;
      map.set(
        { a: n, b: n * 2 ** 33, name: `k${n}` },
        { count: i, bytes: new Uint8Array(20).fill(n) },
      );
      garbage.push(new Uint8Array(n & 127));
      const past = (i * 7) & 1023;
      const value = map.get({ a: past, b: past * 2 ** 33, name: `k${past}` });
      const last = i - ((i - past) & 1023);
      const expected = last < 0 ? undefined : last;
      if (value?.count !== expected) wrong++;
      if (value !== undefined && value.bytes[19] !== (past & 255)) wrong++;
      if (i % 5000 === 0) {
        garbage = [];
        Bun.gc(true);
      }
    }
    expect(wrong).toBe(0);
    expect(map.count()).toBe(1024);
  });

  bpfTest("is not shared between 300 open maps", () => {
    using maps = new DisposableStack();
    const all = Array.from({ length: 300 }, (_, n) =>
      maps.use(new HashMap({ key: t.bytes(1 + (n % 64)), value: t.bytes(1 + n), maxEntries: 4 })),
    );
    const keyFor = (n: number, i: number) => new Uint8Array(1 + (n % 64)).fill(i & 3);
    for (let i = 0; i < 4; i++) {
      for (const [n, map] of all.entries())
        map.set(keyFor(n, i), new Uint8Array(1 + n).fill(n ^ i));
    }
    let wrong = 0;
    for (let i = 0; i < repetitions(60_000, 20_000); i++) {
      const n = (i * 7) % 300;
      const value = all[n]?.get(keyFor(n, i));
      if (value?.length !== 1 + n || value[n] !== ((n ^ (i & 3)) & 255)) wrong++;
      if (i % 6000 === 0) Bun.gc(true);
    }
    expect(wrong).toBe(0);
  });

  bpfTest("of an iteration survives garbage collections between its steps", () => {
    using map = new HashMap({ key: t.u32, value: t.u64Number, maxEntries: 5000 });
    map.setMany(Array.from({ length: 5000 }, (_, key) => [key, key * 3] as const));
    let steps = 0;
    for (const [key, value] of map) {
      if (value !== key * 3) throw new Error(`${key} has ${value}`);
      if (++steps % 500 === 0) Bun.gc(true);
    }
    expect(steps).toBe(5000);
  });
});

describe("access to unmapped or read-only memory", () => {
  const children = {
    "a view of an array map, in compiled code after disposal": "kept_array_view.ts",
    "the positions and records of a ring, and a view of it after disposal": "kept_ring_view.ts",
  };
  for (const [name, file] of Object.entries(children)) {
    bpfTest(`does not end the process: ${name}`, async () => {
      const child = await runBun([`test/ffi/children/${file}`], { timeout: 30_000 });
      expect(child).toMatchObject({
        stderr: "",
        stdout: "survived\n",
        exitCode: 0,
        signalCode: null,
      });
    });
  }
});

describe("a loop that waits for another thread's store", () => {
  /** The time after which a loop that never sees the store is ended. */
  const timeoutMs = 5000;

  const looks: Record<string, (map: ArrayMap<t.Type<number>>) => () => boolean> = {
    "by get": (map) => () => map.get(1) === 77,
    // With only performance.now() beside it, a plain read of the view would never see the store: see ArrayMap.view.
    "in the view, beside a call of the map": (map) => {
      const { view, stride } = map;
      return () => map.has(0) && view.getUint32(stride, true) === 77;
    },
    "in the view, by Atomics": ({ view, stride }) => {
      const words = new Uint32Array(view.buffer);
      return () => Atomics.load(words, stride / 4) === 77;
    },
    "by iteration": (map) => () => [...map.values()][1] === 77,
  };
  for (const [name, look] of Object.entries(looks)) {
    bpfTest(`sees it ${name}`, async () => {
      using map = new ArrayMap({ value: t.u32, length: 4, mmap: true });
      const worker = await startWorker("late_store.ts");
      const isStored = look(map);
      // The delay is long enough for the loop to be compiled before the store.
      const done = nextMessage(worker);
      worker.postMessage({ fd: map.fd, delay: isGuest ? 1000 : 300 });
      const end = performance.now() + timeoutMs;
      let rounds = 0;
      while (!isStored() && performance.now() < end) rounds++;
      expect(isStored()).toBe(true);
      expect(performance.now()).toBeLessThan(end);
      expect(rounds).toBeGreaterThan(1000);
      // The Worker closes its descriptor before it answers.
      await done;
      await endWorker(worker);
    });
  }
});

bpfTest(
  "lastErrno returns the errno of this thread, in 500,000 failures on each of two",
  async () => {
    using map = new HashMap({ key: t.u32, value: t.u32, maxEntries: 1 });
    const worker = await startWorker("errno_worker.ts");
    const answer = nextMessage(worker);
    worker.postMessage({ fd: map.fd, calls: 500_000 });
    expect(wrongErrnos(map.fd, 500_000)).toBe(0);
    expect(await answer).toBe(0);
    await endWorker(worker);
  },
);
