import { expect } from "bun:test";
import { ArrayMap, DisposedError, t, UserRingBuf } from "../../src/index.ts";
import { bridgeTest } from "../loop/bridges.ts";
import { mapTest } from "../support/needs.ts";
import { runBun } from "../support/run.ts";
import { checkedState, sequenceChecker } from "./drainer.ts";
import { drainedRing } from "./rings.ts";
import { repetitions } from "../support/effort.ts";
import { endWorker } from "../support/end_worker.ts";

const userRingTest = mapTest("user_ringbuf");

const children = `${import.meta.dir}/children`;
/** The event of these tests. With its header it has 72 bytes: a page holds 56 of them, and then has 64 free bytes. */
const event = t.struct({ length: t.u32, value: t.u32, rest: t.bytes(56) });
const held = 56;

function setUp() {
  const made = drainedRing(event);
  const rest = new Uint8Array(56);
  const numbered = (value: number) => ({ length: 64, value, rest });
  return {
    ...made,
    numbered,
    /** Writes events, numbered from 0, until the ring is full. */
    fill() {
      let count = 0;
      while (made.ring.output(numbered(count))) count++;
      expect(count).toBe(held);
    },
  };
}

bridgeTest(
  "a drain wakes waiting calls in their order",
  async () => {
    using setup = setUp();
    const { ring, drainer, numbered, fill } = setup;
    fill();
    const order: number[] = [];
    const waiting = [0, 1, 2, 3].map(async (index) => {
      await ring.write(numbered(held + index));
      order.push(index);
    });
    expect(ring.output(numbered(1000))).toBe(false);
    expect(ring.reserve(0)).toBeUndefined();
    const read: number[] = [];
    for (let count = 0; count < 4; count++) {
      await Bun.sleep(3);
      read.push(...drainer.readNumbers({ limit: 1 }));
    }
    await Promise.all(waiting);
    expect(order).toEqual([0, 1, 2, 3]);
    read.push(...drainer.readNumbers());
    expect(read).toEqual(Array.from({ length: held + 4 }, (_, value) => value));
    expect(ring.stats).toMatchObject({ waits: 4, refused: 3, events: held + 4, backlog: 0 });
  },
  userRingTest,
);

bridgeTest(
  "a wait for more room than the next drained record frees does not spin",
  async () => {
    using setup = setUp();
    const { ring, drainer, fill } = setup;
    fill();
    // The kernel reports the ring as writable all the time, because 64 bytes are free.
    const waiting = ring.reserveWhenFree(2000);
    const before = process.cpuUsage();
    const began = performance.now();
    await Bun.sleep(200);
    const { user, system } = process.cpuUsage(before);
    expect((user + system) / 1000).toBeLessThan((performance.now() - began) / 2);
    expect(ring.stats.wakeups).toBeLessThan(5);
    for (let count = 0; count < 26; count++) drainer.drain({ limit: 1 });
    await Bun.sleep(20);
    expect(await Promise.race([waiting, "waits"])).toBe("waits");
    drainer.drain({ limit: 1 });
    const record = await waiting;
    expect(record.length).toBe(2000);
    record.discard();
  },
  userRingTest,
);

bridgeTest(
  "200,000 records are drained unchanged by a program on another thread",
  async () => {
    using ring = new UserRingBuf({ size: 4096, event: t.u64Number });
    using state = new ArrayMap({ value: checkedState, length: 1 });
    using program = sequenceChecker(ring, state);
    const worker = new Worker(`${children}/racing_drainer.ts`, { ref: false });
    worker.postMessage(program.fd);
    const count = repetitions(200_000, 80_000);
    for (let value = 0; value < count; value++) {
      if (value % 3 === 0) {
        const record = await ring.reserveWhenFree();
        record.set(value).submit();
      } else if (!ring.output(value)) await ring.write(value);
    }
    while (ring.backlog > 0) await Bun.sleep(1);
    await endWorker(worker);
    expect(state.at(0)).toEqual({ next: count, wrong: 0 });
    expect(ring.stats.waits).toBeGreaterThan(10);
  },
  userRingTest,
);

userRingTest("a drain with BPF_RB_NO_WAKEUP is detected", async () => {
  using setup = setUp();
  const { ring, drainer, numbered, fill } = setup;
  fill();
  const waiting = ring.write(numbered(held));
  await Bun.sleep(30);
  const noWakeup = 1;
  expect(drainer.drain({ flags: noWakeup })).toBe(held);
  await waiting;
  expect(drainer.readNumbers().at(-1)).toBe(held);
  expect(ring.stats.wakeups).toBe(0);
});

userRingTest("write() with room does not wait, and opens no descriptor", async () => {
  using setup = setUp();
  const { ring, drainer, numbered } = setup;
  await ring.write(numbered(1));
  using record = await ring.reserveWhenFree();
  record.set(numbered(2)).submit();
  expect(drainer.readNumbers()).toEqual([1, 2]);
  expect(ring.stats).toMatchObject({ waits: 0, polls: 0, wakeups: 0 });
});

userRingTest("a loop of writes that never wait does not block timers", async () => {
  using setup = setUp();
  const { ring, drainer, numbered } = setup;
  for (const write of [
    () => ring.write(numbered(1)),
    async () => (await ring.reserveWhenFree()).discard(),
  ]) {
    let fired = false;
    const timer = setTimeout(() => {
      fired = true;
    }, 5);
    let count = 0;
    // Ends a loop that does not let timers run.
    while (!fired && count++ < 1_000_000) {
      await write();
      if (ring.backlog > 2048) drainer.read();
    }
    clearTimeout(timer);
    expect(fired).toBe(true);
  }
  expect(ring.stats.waits).toBe(0);
});

userRingTest("a waiting event keeps the value that it had at the call", async () => {
  using setup = setUp();
  const { ring, drainer, numbered, fill } = setup;
  fill();
  const changing = { ...numbered(held) };
  const waiting = ring.write(changing);
  changing.value = 9;
  drainer.read();
  await waiting;
  expect(drainer.readNumbers()).toEqual([held]);
  // A value that the type rejects does not wait.
  fill();
  await expect(ring.write({ ...changing, value: -1 })).rejects.toThrow(RangeError);
  expect(ring.stats.waits).toBe(1);
});

userRingTest("an aborted wait writes nothing and lets the next one continue", async () => {
  using setup = setUp();
  const { ring, drainer, numbered, fill } = setup;
  const reason = new Error("on purpose");
  const aborted = AbortSignal.abort(reason);
  await expect(ring.write(numbered(0), { signal: aborted })).rejects.toBe(reason);
  await expect(ring.reserveWhenFree(8, { signal: aborted })).rejects.toBe(reason);
  expect(ring.backlog).toBe(0);
  fill();
  const abort = new AbortController();
  const { signal } = abort;
  const first = ring.reserveWhenFree(4000, { signal });
  const second = ring.write(numbered(1000), { signal });
  // 56 bytes and a header are free.
  const third = ring.reserveWhenFree(56);
  abort.abort(reason);
  const outcome = { status: "rejected", reason } as const;
  expect(await Promise.allSettled([first, second])).toEqual([outcome, outcome]);
  (await third).discard();
  expect(drainer.readNumbers()).toHaveLength(held);
  expect(ring.stats).toMatchObject({ events: held, waits: 3, backlog: 0 });
});

userRingTest("disposal of the ring rejects waiting calls", async () => {
  const setup = setUp();
  const { ring, numbered, fill } = setup;
  fill();
  const waiting = [ring.write(numbered(1)), ring.reserveWhenFree(8), ring.reserveWhenFree(100)];
  setup[Symbol.dispose]();
  for (const outcome of await Promise.allSettled(waiting)) {
    expect(outcome).toMatchObject({ status: "rejected", reason: expect.any(DisposedError) });
  }
  await expect(ring.write(numbered(1))).rejects.toThrow(DisposedError);
  await expect(ring.reserveWhenFree()).rejects.toThrow(DisposedError);
});

userRingTest("write() and reserveWhenFree() check their arguments", async () => {
  using setup = setUp();
  const { ring, numbered } = setup;
  // @ts-expect-error: misspelt on purpose
  await expect(ring.write(numbered(1), { signl: undefined })).rejects.toThrow('"signal"');
  await expect(ring.write(numbered(1), { signal: 1 as never })).rejects.toThrow(TypeError);
  await expect(ring.reserveWhenFree(5000)).rejects.toThrow("from 0 to 4088, got 5000");
  await expect(ring.write(numbered(-1))).rejects.toThrow(RangeError);
  expect(() => ring.writable({ highWaterMark: 0 })).toThrow(RangeError);
  // @ts-expect-error: misspelt on purpose
  expect(() => ring.writable({ max: 1 })).toThrow(TypeError);
  expect(ring.backlog).toBe(0);
});

userRingTest("a waiting call keeps the process alive unless the ring is unreferenced", async () => {
  const options = { timeout: 20_000 };
  const child = `${children}/user_ring_waits.ts`;
  const unreferenced = await runBun([child, "unref"], options);
  expect(unreferenced).toMatchObject({ exitCode: 0, stdout: "waiting\n", stderr: "" });
  // The timer that disposes of the ring does not keep the process alive, so the wait must.
  const disposed = await runBun([child, "dispose"], options);
  expect(disposed).toMatchObject({ exitCode: 0, stdout: "waiting\nDisposedError\n", stderr: "" });
});

userRingTest(
  "a signal that the event aborts during its encoding ends the wait before it starts",
  async () => {
    using setup = setUp();
    const { ring, numbered, fill } = setup;
    fill();
    const controller = new AbortController();
    const reason = new Error("gone");
    const aborting = {
      ...numbered(1),
      get value() {
        controller.abort(reason);
        return 1;
      },
    };
    await expect(ring.write(aborting, { signal: controller.signal })).rejects.toBe(reason);
    expect(ring.stats.waits).toBe(0);
  },
);
