import { expect } from "bun:test";
import { ArrayMap, RingBuf, t, features } from "../../src/index.ts";
import { bpfTest } from "../support/privilege.ts";
import { runBun } from "../support/run.ts";
import { counter, counterState, countedEvent, Producer } from "./producer.ts";
import { testWith } from "../support/needs.ts";
import { runMany } from "../support/run_program.ts";

const children = `${import.meta.dir}/children`;

bpfTest("for await delivers present events and then new ones, in order", async () => {
  using ring = new RingBuf({ size: 4096, event: t.u32 });
  using producer = new Producer(ring);
  producer.putNumber(0);
  producer.putNumber(1);
  const events: number[] = [];
  for await (const event of ring) {
    events.push(event);
    if (event === 20) break;
    // From a timer, so that the loop has to wait.
    if (event > 0) setTimeout(() => producer.putNumber(event + 1), event % 3);
  }
  expect(events).toEqual(Array.from({ length: 21 }, (_, value) => value));
});

bpfTest(
  "leaving the loop keeps undelivered events, and a second loop continues in order",
  async () => {
    using ring = new RingBuf({ size: 4096, event: t.u32 });
    using producer = new Producer(ring);
    for (let value = 0; value < 6; value++) producer.putNumber(value);
    const events: number[] = [];
    for await (const event of ring) {
      events.push(event);
      if (event === 2) break;
    }
    ring.drain((event) => void events.push(event), { limit: 1 });
    for await (const event of ring) {
      events.push(event);
      if (event === 5) break;
    }
    expect(events).toEqual([0, 1, 2, 3, 4, 5]);
  },
);

bpfTest("an exception in the loop's body ends the iteration", async () => {
  using ring = new RingBuf({ size: 4096, event: t.u32 });
  using producer = new Producer(ring);
  producer.putNumber(1);
  producer.putNumber(2);
  const loop = async () => {
    for await (const event of ring) throw new Error(`of event ${event}`);
  };
  await expect(loop()).rejects.toThrow("of event 1");
  expect(ring.drain(() => {})).toBe(1);
});

bpfTest(
  "a record that is too short ends the loop with a RangeError, and the next loop continues after it",
  async () => {
    using ring = new RingBuf({ size: 4096, event: t.u32 });
    using producer = new Producer(ring);
    const events: number[] = [];
    const loop = async () => {
      for await (const event of ring) {
        events.push(event);
        if (event === 2) break;
      }
    };
    // The first record is there at the start, the second arrives while the loop waits.
    producer.put(Uint8Array.of(1));
    await expect(loop()).rejects.toThrow("has 1 bytes, but its event type u32 needs 4");
    const waiting = loop();
    producer.put(Uint8Array.of(1, 2));
    producer.putNumber(2);
    await expect(waiting).rejects.toThrow("has 2 bytes");
    await loop();
    expect(events).toEqual([2]);
  },
);

bpfTest("a second consumer throws while a loop runs", async () => {
  using ring = new RingBuf({ size: 4096, event: t.u32 });
  using producer = new Producer(ring);
  producer.putNumber(1);
  for await (const _ of ring) {
    expect(() => ring.drain(() => {})).toThrow("end that iteration first");
    expect(() => ring[Symbol.asyncIterator]()).toThrow("end that iteration first");
    break;
  }
  expect(ring.drain(() => {})).toBe(0);
});

bpfTest("calls of next() that wait at the same time resolve in order", async () => {
  using ring = new RingBuf({ size: 4096, event: t.u32 });
  using producer = new Producer(ring);
  const iterator = ring[Symbol.asyncIterator]();
  const waiting = [iterator.next(), iterator.next(), iterator.next(), iterator.next()];
  for (let value = 0; value < 3; value++) producer.putNumber(value);
  expect(await Promise.all(waiting.slice(0, 3))).toEqual(
    [0, 1, 2].map((value) => ({ done: false, value })),
  );
  await iterator.return?.();
  expect(await waiting[3]).toEqual({ done: true, value: undefined });
  expect(await iterator.next()).toEqual({ done: true, value: undefined });
});

testWith(features.instructions.get("fetching_atomics"))(
  "a timer fires during for await over a ring that is never empty",
  async () => {
    using ring = new RingBuf({ size: 65536, event: countedEvent });
    using state = new ArrayMap({ value: counterState, length: 1 });
    using program = counter(ring, state);
    const refill = () => runMany(program, 1000);
    refill();
    let fired = false;
    let events = 0;
    const timer = setTimeout(() => {
      fired = true;
    }, 5);
    for await (const { sequence } of ring) {
      expect(sequence).toBe(events++);
      if (ring.backlog < 8000) refill();
      // Ends a loop that does not let timers run.
      if (fired || events === 2_000_000) break;
    }
    clearTimeout(timer);
    expect(fired).toBe(true);
    expect(ring.backlog).toBeGreaterThan(0);
  },
);

bpfTest(
  "a waiting loop keeps the process alive, and the process exits after the loop",
  async () => {
    const ended = await runBun([`${children}/break_out.ts`], { timeout: 20_000 });
    expect(ended).toMatchObject({ exitCode: 0, stdout: "1\nleft\n", stderr: "" });
    const waited = await runBun([`${children}/wait_for_unreferenced.ts`], { timeout: 20_000 });
    expect(waited).toMatchObject({ exitCode: 0, stdout: "7\nleft\n", stderr: "" });
  },
);
