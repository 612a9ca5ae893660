import { afterEach, expect, jest, test } from "bun:test";
import { monotonicNanoseconds, PerfBuffer, RingBuf, t, UserRingBuf } from "../../src/index.ts";
import { PullIterator, eventItems } from "../../src/ring/iterators.ts";
import { consumeSettings } from "../../src/ring/ring_options.ts";
import { bridgeTest } from "../loop/bridges.ts";
import { Drainer } from "./drainer.ts";
import { FakeRing } from "./fake_ring.ts";
import { FakeSource } from "./fake_source.ts";
import { PerfProducer } from "./perf_producer.ts";
import { Producer } from "./producer.ts";
import { mapTest } from "../support/needs.ts";
import { bpfTest } from "../support/privilege.ts";

afterEach(() => {
  jest.useRealTimers();
});

const noWakeup = 1;

/** Lets timers and I/O run until the condition holds, for at most ten seconds of the machine's clock. */
async function until(condition: () => boolean): Promise<void> {
  const end = monotonicNanoseconds() + 10e9;
  while (!condition() && monotonicNanoseconds() < end) {
    await new Promise<void>((resolve) => setImmediate(resolve));
  }
}

/** Writes 100 events four times: with real timers, with fake ones, after the fake ones, and with fake ones again. */
async function putFourTimes(
  putNumber: (value: number) => boolean | number,
  received: readonly number[],
): Promise<void> {
  for (let phase = 0; phase < 4; phase++) {
    if (phase % 2 === 0) jest.useRealTimers();
    else jest.useFakeTimers();
    for (let value = phase * 100; value < (phase + 1) * 100; value++) {
      putNumber(value);
      // A few at a time, so that the consumer waits in between.
      if (value % 10 === 9) await until(() => received.length === value + 1);
    }
    expect(received).toHaveLength((phase + 1) * 100);
  }
  expect(received).toEqual(Array.from({ length: 400 }, (_, value) => value));
}

/** Ways to consume a ring. Each appends the events that it gets. */
const ways: Readonly<
  Record<
    string,
    (ring: RingBuf<t.Type<number>>, received: number[]) => { readonly flags?: number } | undefined
  >
> = {
  subscribe(ring, received) {
    ring.subscribe((event) => void received.push(event));
    return {};
  },
  "subscribe that polls"(ring, received) {
    ring.subscribe((event) => void received.push(event), { wakeup: "poll" });
    return {};
  },
  "subscribe that begins to poll"(ring, received) {
    ring.subscribe((event) => void received.push(event), { threshold: 5 });
    return {};
  },
  "subscribe with maxLatency"(ring, received) {
    ring.subscribe((event) => void received.push(event), { maxLatency: 5 });
    return { flags: noWakeup };
  },
  "for await"(ring, received) {
    void (async () => {
      for await (const event of ring.events({ threshold: 5 })) received.push(event);
    })();
    return {};
  },
  batches(ring, received) {
    void (async () => {
      for await (const batch of ring.batches({ maxLatency: 5 })) received.push(...batch);
    })();
    return { flags: noWakeup };
  },
  stream(ring, received) {
    void (async () => {
      for await (const event of ring.stream({ wakeup: "poll" })) received.push(event);
    })();
    return {};
  },
};

for (const [way, consume] of Object.entries(ways)) {
  bpfTest(`${way} delivers 400 of 400 events with real and with fake timers`, async () => {
    using ring = new RingBuf({ size: 65536, event: t.u32 });
    using producer = new Producer(ring);
    const received: number[] = [];
    const options = consume(ring, received);
    await putFourTimes((value) => producer.putNumber(value, options), received);
  });
}

bridgeTest(
  "events are delivered while timers are fake",
  async () => {
    using ring = new RingBuf({ size: 65536, event: t.u32 });
    using producer = new Producer(ring);
    const received: number[] = [];
    using subscription = ring.subscribe((event) => void received.push(event));
    subscription.unref();
    await putFourTimes((value) => producer.putNumber(value), received);
  },
  bpfTest,
);

bpfTest("events of a perf buffer are delivered while timers are fake", async () => {
  using buffer = new PerfBuffer({ event: t.u32, watermark: 1024 });
  using producer = new PerfProducer(buffer);
  const received: number[] = [];
  using _ = buffer.subscribe((event) => void received.push(event), { maxLatency: 5 });
  await putFourTimes((value) => producer.putNumber(value), received);
});

mapTest("user_ringbuf")("waits for room continue while timers are fake", async () => {
  using ring = new UserRingBuf({ size: 4096, event: t.bytes(2040) });
  using drainer = new Drainer(ring);
  for (const fake of [true, false, true]) {
    if (fake) jest.useFakeTimers();
    else jest.useRealTimers();
    while (ring.output(new Uint8Array(2040)));
    let isWritten = false;
    const written = ring.write(new Uint8Array(2040)).then(() => (isWritten = true));
    expect(isWritten).toBe(false);
    // Without a wake-up, a timer checks for room.
    expect(drainer.drain({ flags: noWakeup })).toBe(2);
    await until(() => isWritten);
    expect(isWritten).toBe(true);
    await written;
    drainer.drain();
  }
});

test("a reserved record is checked again while timers are fake", async () => {
  const memory = new FakeRing();
  const source = new FakeSource(memory, t.u32);
  const settings = consumeSettings("test", {}, []);
  const iterator = new PullIterator(source, "iteration", settings, eventItems(source));
  for (const fake of [true, false, true]) {
    if (fake) jest.useFakeTimers();
    else jest.useRealTimers();
    const busy = memory.reserve(4);
    let value: number | undefined;
    const next = iterator.next().then((result) => (value = result.value));
    const before = memory.checks;
    await until(() => memory.checks > before + 3);
    memory.set(busy + 8, 5);
    memory.commit(busy, 4);
    await until(() => value !== undefined);
    expect(value).toBe(5);
    await next;
  }
  await iterator.return();
});

bpfTest(
  "a timer that is cancelled or unreferenced while timers are fake stays cancelled or unreferenced",
  async () => {
    jest.useFakeTimers();
    using ring = new RingBuf({ size: 4096, event: t.u32 });
    using subscription = ring.subscribe(() => {}, { wakeup: "poll" });
    subscription.unref();
    await until(() => ring.stats.polls > 2);
    expect(ring.stats.polls).toBeGreaterThan(2);
    subscription[Symbol.dispose]();
    const { polls } = ring.stats;
    const end = monotonicNanoseconds() + 20e6;
    await until(() => monotonicNanoseconds() > end);
    expect(ring.stats.polls).toBe(polls);
  },
);
