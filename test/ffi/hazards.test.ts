// Each way in which bun:ffi crashed or corrupted a prototype, with a test that would have caught it. The one with
// munmap under an asynchronous operation is in memory.test.ts.
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

/** Starts a Worker of a file in children/, and waits until it listens. */
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

describe("memory that only the kernel knows", () => {
  bpfTest("stays where it is: 300,000 calls across forced collections", () => {
    using map = new HashMap({ key: Key, value: Value, maxEntries: 1024 });
    let wrong = 0;
    let garbage: unknown[] = [];
    for (let i = 0; i < repetitions(150_000, 30_000); i++) {
      // Keys and values are made for the call and dropped with it.
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

  bpfTest("stays each map's own, with many maps alive at once", () => {
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

  bpfTest("of a walk stays, whatever is collected between its steps", () => {
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

describe("memory that was unmapped or is read-only", () => {
  const children = {
    "an array map's view, kept and read in compiled code": "kept_array_view.ts",
    "a ring's positions and records, and a view kept of it": "kept_ring_view.ts",
  };
  for (const [name, file] of Object.entries(children)) {
    bpfTest(`ends no process: ${name}`, async () => {
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
  /** Far more than the store takes; a loop that never sees it ends here. */
  const patience = 5000;

  const looks: Record<string, (map: ArrayMap<t.Type<number>>) => () => boolean> = {
    "by get": (map) => () => map.get(1) === 77,
    // A plain read of the view with no more than performance.now() beside it waits for ever: see ArrayMap.view.
    "in the view, beside a call of the map": (map) => {
      const { view, stride } = map;
      return () => map.has(0) && view.getUint32(stride, true) === 77;
    },
    "in the view, by Atomics": ({ view, stride }) => {
      const words = new Uint32Array(view.buffer);
      return () => Atomics.load(words, stride / 4) === 77;
    },
    "by a walk": (map) => () => [...map.values()][1] === 77,
  };
  for (const [name, look] of Object.entries(looks)) {
    bpfTest(`sees it ${name}`, async () => {
      using map = new ArrayMap({ value: t.u32, length: 4, mmap: true });
      const worker = await startWorker("late_store.ts");
      const isStored = look(map);
      // Long enough for the loop to be compiled with the old value in sight.
      const done = nextMessage(worker);
      worker.postMessage({ fd: map.fd, delay: isGuest ? 1000 : 300 });
      const end = performance.now() + patience;
      let rounds = 0;
      while (!isStored() && performance.now() < end) rounds++;
      expect(isStored()).toBe(true);
      expect(performance.now()).toBeLessThan(end);
      expect(rounds).toBeGreaterThan(1000);
      // It closes its own descriptor before it answers.
      await done;
      await endWorker(worker);
    });
  }
});

bpfTest("errno is the last call's of this thread, in 500,000 failures on each of two", async () => {
  using map = new HashMap({ key: t.u32, value: t.u32, maxEntries: 1 });
  const worker = await startWorker("errno_worker.ts");
  const answer = nextMessage(worker);
  worker.postMessage({ fd: map.fd, calls: 500_000 });
  expect(wrongErrnos(map.fd, 500_000)).toBe(0);
  expect(await answer).toBe(0);
  await endWorker(worker);
});
