// The times at which a consumer checks its ring. The ring is in ordinary memory, and the test sends the wake-ups.
import { expect, test } from "bun:test";
import { Consumer } from "../../src/ring/consumer.ts";
import { type ConsumeOptions, consumeSettings } from "../../src/ring/ring_options.ts";
import { u32 } from "../../src/types/integer.ts";
import { FakeRing } from "./fake_ring.ts";
import { FakeSource } from "./fake_source.ts";
import { isGuest, testUnless } from "../support/skipping.ts";

/** A consumer that drains the ring at each check. */
class Drainer extends Consumer implements Disposable {
  readonly memory: FakeRing;
  readonly counts: FakeSource<number>;
  /** The number of events that each check found. */
  readonly checks: number[] = [];
  /** Called before each check: writes what programs have written until then. */
  before: () => void = () => {};
  limit = Number.MAX_SAFE_INTEGER;

  constructor(options: ConsumeOptions = {}, size = 4096) {
    const memory = new FakeRing(size);
    const source = new FakeSource(memory, u32);
    super(source, "subscription", consumeSettings("test", options, []));
    this.memory = memory;
    this.counts = source;
    this.begin();
  }

  protected get shownName(): string {
    return "Drainer";
  }

  get isArmed(): boolean {
    return this.counts.isArmed;
  }

  override consume(): number {
    this.before();
    const found = this.source.reader.drain(() => {}, this.limit);
    this.checks.push(found);
    this.schedule();
    return found;
  }

  put(count: number): void {
    for (let value = 0; value < count; value++) this.memory.putNumber(value);
  }

  /** Sends a wake-up as the kernel does. */
  wake(): void {
    expect(this.isArmed).toBe(true);
    this.counts.wake();
  }

  protected override aborted(): void {
    this.end();
  }

  protected override settle(): void {}

  [Symbol.dispose](): void {
    this.end();
  }
}

const intervals = (count: number) => Bun.sleep(count * 3 + 5);

test("a consumer with few events waits for wake-ups, without a timer", async () => {
  using consumer = new Drainer();
  consumer.consume();
  for (let round = 0; round < 10; round++) {
    await Bun.sleep(2);
    consumer.put(5);
    consumer.wake();
    expect(consumer.isArmed).toBe(true);
  }
  await intervals(3);
  expect(consumer.checks).toEqual([0, ...Array.from({ length: 10 }, () => 5)]);
  expect(consumer.counts).toMatchObject({ wakeups: 10, polls: 0 });
});

test("a consumer polls after a wake-up with many events, and waits for wake-ups again when few arrive", async () => {
  using consumer = new Drainer();
  consumer.consume();
  consumer.put(20);
  consumer.wake();
  expect(consumer.isArmed).toBe(false);
  consumer.before = () => consumer.put(consumer.checks.length < 6 ? 10 : 0);
  await intervals(12);
  expect(consumer.isArmed).toBe(true);
  // 20 at the wake-up, four checks with 10 each, and three without events.
  expect(consumer.checks).toEqual([0, 20, 10, 10, 10, 10, 0, 0, 0]);
  expect(consumer.counts).toMatchObject({ wakeups: 1, polls: 7 });
});

test("the events of all wake-ups within an interval count towards the threshold", () => {
  using consumer = new Drainer({ interval: 60_000, threshold: 16 });
  consumer.consume();
  for (let round = 0; round < 7; round++) {
    consumer.put(2);
    consumer.wake();
    expect(consumer.isArmed).toBe(true);
  }
  consumer.put(2);
  consumer.wake();
  expect(consumer.isArmed).toBe(false);
});

/** A test with a rate of events that emulated machines do not reach. */
const rateTest = testUnless(isGuest ? "an emulated machine is too slow for that rate" : undefined);

rateTest("a consumer waits for wake-ups if the ring would be full within a millisecond", () => {
  using consumer = new Drainer();
  consumer.consume();
  for (let round = 0; round < 10; round++) {
    // 16 bytes a record, 255 fit: this is more than 40 %.
    consumer.put(120);
    consumer.wake();
    expect(consumer.isArmed).toBe(true);
  }
  expect(consumer.counts).toMatchObject({ wakeups: 10, polls: 0 });
});

test("a ring that would be full before the interval ends is checked sooner", async () => {
  using consumer = new Drainer({ interval: 60_000 });
  consumer.consume();
  // 30 records of 16 bytes: at this rate, 40 % of the ring is full in less than four milliseconds.
  consumer.put(30);
  consumer.wake();
  expect(consumer.isArmed).toBe(false);
  for (let left = 200; consumer.checks.length < 3 && left > 0; left--) await Bun.sleep(5);
  expect(consumer.checks.slice(0, 3)).toEqual([0, 30, 0]);
});

rateTest(
  "in poll mode, a ring that would be full within a millisecond is checked in every turn",
  async () => {
    using consumer = new Drainer({ wakeup: "poll" });
    consumer.put(120);
    consumer.consume();
    consumer.before = () => consumer.put(120);
    let turns = 0;
    while (turns++ < 20) await new Promise<void>((resolve) => setImmediate(resolve));
    expect(consumer.checks.length).toBeGreaterThan(10);
    expect(consumer.checks.every((found) => found === 120)).toBe(true);
  },
);

test("interrupt mode never polls, even with many events", async () => {
  using consumer = new Drainer({ wakeup: "interrupt" });
  consumer.consume();
  for (let round = 0; round < 5; round++) {
    consumer.put(200);
    consumer.wake();
    expect(consumer.isArmed).toBe(true);
  }
  await intervals(3);
  expect(consumer.counts).toMatchObject({ wakeups: 5, polls: 0 });
});

test("poll mode never waits for a wake-up", async () => {
  using consumer = new Drainer({ wakeup: "poll" });
  consumer.consume();
  await intervals(10);
  expect(consumer.isArmed).toBe(false);
  expect(consumer.counts.wakeups).toBe(0);
  expect(consumer.counts.polls).toBeGreaterThanOrEqual(3);
});

test("events that a limit leaves are delivered in the next turn, before any wait", async () => {
  using consumer = new Drainer();
  consumer.limit = 10;
  consumer.put(35);
  consumer.consume();
  expect(consumer.isArmed).toBe(false);
  for (let turn = 0; turn < 4; turn++) await new Promise<void>((resolve) => setImmediate(resolve));
  expect(consumer.checks.slice(0, 4)).toEqual([10, 10, 10, 5]);
});

test("a record that stays reserved is polled with increasing delays, without a wait for a wake-up", async () => {
  using consumer = new Drainer();
  const busy = consumer.memory.reserve(4);
  consumer.consume();
  await Bun.sleep(200);
  expect(consumer.isArmed).toBe(false);
  // After 1, 3, 7, 15, 31, 63, 113, 163 ms.
  expect(consumer.checks.length).toBeGreaterThan(3);
  expect(consumer.checks.length).toBeLessThanOrEqual(10);
  consumer.memory.commit(busy, 4);
  await Bun.sleep(70);
  expect(consumer.checks.at(-1)).toBe(1);
  expect(consumer.isArmed).toBe(true);
});

test("reserved records do not delay events for long if others are submitted before them", async () => {
  using consumer = new Drainer();
  let held = consumer.memory.reserve(4);
  consumer.before = () => {
    // The reserved record is submitted, others follow, and another record is reserved.
    consumer.memory.commit(held, 4);
    consumer.put(3);
    held = consumer.memory.reserve(4);
  };
  consumer.consume();
  for (let left = 400; consumer.checks.length < 20 && left > 0; left--) await Bun.sleep(1);
  expect(consumer.checks.length).toBeGreaterThanOrEqual(20);
  expect(new Set(consumer.checks)).toEqual(new Set([4]));
});

test("maxLatency checks the ring without a wake-up, and the wait continues", async () => {
  using consumer = new Drainer({ maxLatency: 3 });
  consumer.consume();
  consumer.put(2);
  await Bun.sleep(15);
  expect(consumer.checks.slice(0, 2)).toEqual([0, 2]);
  expect(consumer.isArmed).toBe(true);
  const { length } = consumer.checks;
  consumer.wake();
  expect(consumer.checks.length).toBe(length + 1);
});

test("an ended consumer does not check the ring", async () => {
  for (const prepare of [
    (consumer: Drainer) => consumer.memory.reserve(4),
    (consumer: Drainer) => consumer.put(20),
    (consumer: Drainer) => {
      consumer.put(20);
      consumer.limit = 1;
    },
    () => {},
  ]) {
    const consumer = new Drainer({ maxLatency: 1 });
    prepare(consumer);
    consumer.consume();
    consumer[Symbol.dispose]();
    const { length } = consumer.checks;
    await intervals(2);
    expect(consumer.checks.length).toBe(length);
    expect(consumer.isArmed).toBe(false);
  }
});
