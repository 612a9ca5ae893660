import { expect } from "bun:test";
import { RingBuf, t } from "../../src/index.ts";
import { bpfTest } from "../support/privilege.ts";
import { runBun } from "../support/run.ts";
import { bridgeTest } from "../loop/bridges.ts";
import { Producer } from "./producer.ts";

const children = `${import.meta.dir}/children`;

/** Waits until a condition holds, for at most two seconds. */
async function until(condition: () => boolean): Promise<void> {
  for (let left = 2000; !condition() && left > 0; left--) await Bun.sleep(1);
  expect(condition()).toBe(true);
}

/** BPF_RB_NO_WAKEUP */
const noWakeup = 1;

function numbers(count: number, from = 0): number[] {
  return Array.from({ length: count }, (_, index) => from + index);
}

bpfTest(
  "present events are delivered in the next turn, and later ones when they arrive",
  async () => {
    using ring = new RingBuf({ size: 4096, event: t.u32 });
    using producer = new Producer(ring);
    for (const value of numbers(5)) producer.putNumber(value);
    const events: number[] = [];
    using subscription = ring.subscribe((event) => void events.push(event));
    expect(events).toEqual([]);
    expect(subscription.active).toBe(true);
    await until(() => events.length === 5);
    for (const value of numbers(20, 5)) {
      producer.putNumber(value);
      if (value % 3 === 0) await Bun.sleep(2);
    }
    await until(() => events.length === 25);
    expect(events).toEqual(numbers(25));
  },
);

bridgeTest(
  "an event that is written during a flush wakes the subscription",
  async () => {
    using ring = new RingBuf({ size: 4096, event: t.u32 });
    using producer = new Producer(ring);
    const events: number[] = [];
    using subscription = ring.subscribe((event) => {
      events.push(event);
      // The consumer has not caught up: the kernel sends no wake-up for this record.
      if (event % 2 === 0) producer.putNumber(event + 1);
    });
    for (const first of [0, 2, 4]) {
      // Until the subscription waits.
      await Bun.sleep(20);
      producer.putNumber(first, { flags: noWakeup });
      expect(subscription.flush()).toBe(1);
      await until(() => events.length === first + 2);
    }
    producer.putNumber(7);
    await until(() => events.length === 7);
    expect(events).toEqual([0, 1, 2, 3, 4, 5, 7]);
  },
  bpfTest,
);

bpfTest("subscribeRaw() passes the view, offset and length of each record", async () => {
  using ring = new RingBuf({ size: 4096, event: t.u32 });
  using producer = new Producer(ring);
  const seen: [value: number, length: number][] = [];
  using _ = ring.subscribeRaw((view, offset, length) => {
    seen.push([view.getUint32(offset, true), length]);
  });
  producer.putNumber(7);
  producer.submit();
  await until(() => seen.length === 2);
  expect(seen).toEqual([
    [7, 4],
    [0xffff_ffff, 24],
  ]);
});

bpfTest(
  "a subscription that its callback disposes of leaves undelivered events in the ring",
  async () => {
    using ring = new RingBuf({ size: 4096, event: t.u32 });
    using producer = new Producer(ring);
    for (const value of numbers(6)) producer.putNumber(value);
    const events: number[] = [];
    const subscription = ring.subscribe((event) => {
      events.push(event);
      if (event === 2) subscription[Symbol.dispose]();
    });
    await until(() => !subscription.active);
    await Bun.sleep(5);
    expect(ring.drain((event) => void events.push(event))).toBe(3);
    expect(events).toEqual(numbers(6));
    subscription[Symbol.dispose]();
    expect(subscription.flush()).toBe(0);
  },
);

bpfTest("disposal of the ring in the callback ends the subscription", async () => {
  const ring = new RingBuf({ size: 4096, event: t.u32 });
  using observer = ring.dup();
  using producer = new Producer(ring);
  for (const value of numbers(4)) producer.putNumber(value);
  const events: number[] = [];
  const subscription = ring.subscribe((event) => {
    events.push(event);
    if (event === 1) ring[Symbol.dispose]();
  });
  await until(() => ring.disposed);
  expect(subscription.active).toBe(false);
  expect(observer.drain((event) => void events.push(event))).toBe(2);
  expect(events).toEqual(numbers(4));
});

bpfTest(
  "a signal ends a subscription without an error, even in the callback, and later events stay",
  async () => {
    using ring = new RingBuf({ size: 4096, event: t.u32 });
    using producer = new Producer(ring);
    for (const value of numbers(4)) producer.putNumber(value);
    const controller = new AbortController();
    const events: number[] = [];
    const { signal } = controller;
    const subscription = ring.subscribe(
      (event) => {
        events.push(event);
        if (event === 1) controller.abort();
      },
      { signal },
    );
    await until(() => !subscription.active);
    expect(ring.drain((event) => void events.push(event))).toBe(2);
    expect(events).toEqual(numbers(4));
    const late = ring.subscribe(() => expect.unreachable(), { signal });
    expect(late.active).toBe(false);
    producer.putNumber(9);
    await Bun.sleep(5);
    expect(ring.drain(() => {})).toBe(1);
  },
);

bpfTest(
  "an exception of the callback becomes an uncaught exception, and the subscription continues",
  async () => {
    const ended = await runBun([`${children}/throwing_subscriber.ts`], { timeout: 20_000 });
    expect(ended).toMatchObject({
      exitCode: 0,
      stderr: "",
      stdout: "0\nuncaught: of event 1\n2\nuncaught: too short\n4\nend 5\n",
    });
  },
);

for (const [argument, rest] of [
  ["returns", ""],
  ["awaits", "3\nend of the script\n"],
] as const) {
  bpfTest(
    `an exception of the callback ends a process without a listener, whose script ${argument}, with status 1`,
    async () => {
      const script = `${children}/throwing_without_listener.ts`;
      const ended = await runBun([script, argument], { timeout: 20_000 });
      expect(ended).toMatchObject({
        exitCode: 1,
        stderr: expect.stringContaining("error: of event 1"),
        stdout: `0\n2\n${rest}exit 1\n`,
      });
    },
  );
}

bpfTest(
  "an uncaught error of a callback is printed with the place where it was thrown",
  async () => {
    const script = `import { RingBuf, t } from "./src/index.ts";
import { Producer } from "./test/ring/producer.ts";
const ring = new RingBuf({ size: 4096, event: t.u32 });
ring.subscribe(function readEvent() { throw new Error("thrown by the callback"); });
new Producer(ring).putNumber(1);`;
    const { stderr, exitCode } = await runBun(["-e", script], { timeout: 20_000 });
    expect(exitCode).toBe(1);
    expect(stderr).toContain("error: thrown by the callback");
    expect(stderr).toContain("at readEvent ");
  },
);

bpfTest(
  "a wait that fails ends the subscription with an uncaught error, and other consumers are allowed",
  async () => {
    const env = { BUN_BPF_LOOP: "io_uring" };
    const ended = await runBun([`${children}/failing_wait.ts`], { timeout: 20_000, env });
    expect(ended).toMatchObject({
      exitCode: 0,
      stdout: "1\nuncaught: wait failed on purpose\nfalse\n2\n",
      stderr: "",
    });
  },
);

bpfTest("a budget limits the events per turn, and timers and I/O run in between", async () => {
  using ring = new RingBuf({ size: 65536, event: t.u32 });
  using producer = new Producer(ring);
  for (const value of numbers(1000)) producer.putNumber(value);
  let inTurn = 0;
  let largest = 0;
  let turns = 0;
  let isOver = false;
  const turn = () => {
    turns++;
    inTurn = 0;
    if (!isOver) setImmediate(turn);
  };
  const events: number[] = [];
  setImmediate(turn);
  using _ = ring.subscribe(
    (event) => {
      events.push(event);
      largest = Math.max(largest, ++inTurn);
    },
    { budget: 10 },
  );
  await until(() => events.length === 1000);
  isOver = true;
  expect(events).toEqual(numbers(1000));
  // Two turns of the subscription may fall between two turns of the test.
  expect(largest).toBeLessThanOrEqual(20);
  expect(turns).toBeGreaterThanOrEqual(50);
});

bpfTest("a slow callback without a budget does not block timers", async () => {
  using ring = new RingBuf({ size: 65536, event: t.u32 });
  using producer = new Producer(ring);
  for (const value of numbers(3000)) producer.putNumber(value);
  let count = 0;
  let atTimer = 0;
  setTimeout(() => {
    atTimer = count;
  }, 1);
  using _ = ring.subscribe(() => {
    count++;
    const end = Bun.nanoseconds() + 5000;
    while (Bun.nanoseconds() < end);
  });
  await until(() => count === 3000);
  expect(atTimer).toBeGreaterThan(0);
  expect(atTimer).toBeLessThan(3000);
});

bpfTest("in place, one object reads each event, and throws after the delivery", async () => {
  using ring = new RingBuf({ size: 4096, event: t.struct({ value: t.u32 }) });
  using producer = new Producer(ring);
  const shown = new Set<{ readonly value: number }>();
  const values: number[] = [];
  const kept: { value: number }[] = [];
  using _ = ring.subscribe(
    (event) => {
      shown.add(event);
      values.push(event.value);
      kept.push({ ...event });
    },
    { inPlace: true },
  );
  for (const value of numbers(3)) producer.putNumber(value);
  await until(() => values.length === 3);
  expect(values).toEqual([0, 1, 2]);
  expect(kept).toEqual([{ value: 0 }, { value: 1 }, { value: 2 }]);
  expect(shown.size).toBe(1);
  const [event] = shown;
  expect(() => event?.value).toThrow("this event was released");
});

bpfTest("inPlace throws for an event type that is not a struct", () => {
  using ring = new RingBuf({ size: 4096, event: t.u32 });
  const message = "inPlace: expected an event type that is a t.struct";
  expect(() => ring.subscribe(() => {}, { inPlace: true })).toThrow(message);
  expect(() => ring.drain(() => {}, { inPlace: true })).toThrow(message);
  expect(() => ring.batches({ inPlace: true })).toThrow(message);
  // No consumer is registered.
  expect(ring.drain(() => {})).toBe(0);
});

bpfTest("a second consumer of any kind throws", async () => {
  using ring = new RingBuf({ size: 4096, event: t.u32 });
  using other = ring.dup();
  const refusal = "has a consumer already: end that subscription first";
  const attempts = [
    (of: RingBuf<t.Type<number>>) => of.drain(() => {}),
    (of: RingBuf<t.Type<number>>) => of.drainRaw(() => {}),
    (of: RingBuf<t.Type<number>>) => of.events(),
    (of: RingBuf<t.Type<number>>) => of.batches(),
    (of: RingBuf<t.Type<number>>) => of.subscribe(() => {}),
    (of: RingBuf<t.Type<number>>) => of.subscribeRaw(() => {}),
    (of: RingBuf<t.Type<number>>) => of.stream(),
  ];
  {
    using _ = ring.subscribe(() => {});
    for (const attempt of attempts) {
      expect(() => attempt(ring)).toThrow(refusal);
      expect(() => attempt(other)).toThrow(refusal);
    }
  }
  const stream = other.stream();
  for (const attempt of attempts) expect(() => attempt(ring)).toThrow("end that stream first");
  await stream.cancel();
  expect(ring.drain(() => {})).toBe(0);
});

bpfTest(
  "flush() delivers events without a wake-up, and does nothing inside a callback",
  async () => {
    using ring = new RingBuf({ size: 4096, event: t.u32 });
    using producer = new Producer(ring);
    const noWakeup = { flags: 1 };
    const events: number[] = [];
    const inner: number[] = [];
    using subscription = ring.subscribe((event) => {
      events.push(event);
      inner.push(subscription.flush(), ring.flush());
    });
    await Bun.sleep(5);
    for (const value of numbers(3)) producer.putNumber(value, noWakeup);
    await Bun.sleep(5);
    expect(events).toEqual([]);
    expect(subscription.flush()).toBe(3);
    expect(events).toEqual([0, 1, 2]);
    producer.putNumber(3, noWakeup);
    expect(ring.flush()).toBe(1);
    expect(inner).toEqual([0, 0, 0, 0, 0, 0, 0, 0]);
  },
);

bpfTest("maxLatency delivers records without a wake-up", async () => {
  using ring = new RingBuf({ size: 4096, event: t.u32 });
  using producer = new Producer(ring);
  const events: number[] = [];
  using subscription = ring.subscribe((event) => void events.push(event), { maxLatency: 5 });
  await Bun.sleep(10);
  for (const value of numbers(3)) {
    producer.putNumber(value, { flags: 1 });
    await until(() => events.length === value + 1);
  }
  expect(subscription.stats.polls).toBeGreaterThanOrEqual(3);
  // Wake-ups of the kernel still work.
  const { wakeups } = subscription.stats;
  producer.putNumber(3);
  await until(() => events.length === 4);
  expect(subscription.stats.wakeups).toBeGreaterThan(wakeups);
});

bpfTest("poll mode delivers without wake-ups", async () => {
  using ring = new RingBuf({ size: 4096, event: t.u32 });
  using producer = new Producer(ring);
  const events: number[] = [];
  const options = { wakeup: "poll", interval: 2 } as const;
  using subscription = ring.subscribe((event) => void events.push(event), options);
  for (const value of numbers(10)) {
    producer.putNumber(value, { flags: value % 2 });
    await until(() => events.length === value + 1);
  }
  expect(subscription.stats).toMatchObject({ wakeups: 0, events: 10 });
});

bpfTest("subscribe() checks its options before it claims the ring", () => {
  using ring = new RingBuf({ size: 4096, event: t.u32 });
  const subscribe = (options: object) => () => ring.subscribe(() => {}, options);
  expect(subscribe({ buget: 1 })).toThrow('did you mean "budget"?');
  expect(subscribe({ budget: 0 })).toThrow("budget: expected an integer from 1");
  expect(subscribe({ wakeup: "pol" })).toThrow('did you mean "poll"?');
  expect(subscribe({ interval: 0 })).toThrow("interval: expected an integer from 1 to 60000");
  expect(subscribe({ threshold: 1.5 })).toThrow("threshold");
  expect(subscribe({ maxLatency: -1 })).toThrow("maxLatency");
  expect(subscribe({ signal: {} })).toThrow("signal: expected an AbortSignal");
  // @ts-expect-error: not a function
  expect(() => ring.subscribe()).toThrow("subscribe: expected a function");
  // @ts-expect-error: not a function
  expect(() => ring.subscribeRaw(1)).toThrow("subscribeRaw: expected a function");
  expect(ring.drain(() => {})).toBe(0);
});
