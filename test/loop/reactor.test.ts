import { expect, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { eventLoop, type Watch, watch } from "../../src/loop/event_loop.ts";
import { bridgeTest, bridgeVariable, Signal, withBridge } from "./bridges.ts";

/** The time after which a wake-up that should not happen would have happened. */
const quietMs = 30;

/** Counts the descriptors of this process, and the mappings of bridges. */
function held(): { descriptors: number; mappings: number } {
  const mappings = readFileSync("/proc/self/maps", "utf8")
    .split("\n")
    .filter((line) => /io_uring|\[aio\]/.test(line)).length;
  return { descriptors: readdirSync("/proc/self/fd").length, mappings };
}

bridgeTest("a watch reports a readable descriptor once each time it is armed", async (bridge) => {
  using signal = new Signal();
  let ready = Promise.withResolvers<void>();
  let reports = 0;
  using watched = watch(
    () => signal.fd,
    () => {
      reports++;
      ready.resolve();
    },
  );
  expect(eventLoop.bridge).toBe(bridge);
  watched.arm();
  watched.arm();
  setTimeout(() => signal.raise(), 5);
  await ready.promise;
  await Bun.sleep(quietMs);
  expect(reports).toBe(1);
  // The descriptor is still readable, which is reported at once.
  ready = Promise.withResolvers();
  watched.arm();
  await ready.promise;
  expect(reports).toBe(2);
});

bridgeTest("a watch reports nothing if it is not armed, disarmed or disposed of", async () => {
  using signal = new Signal();
  let reports = 0;
  const count = () => void reports++;
  using never = watch(() => signal.fd, count);
  using disarmed = watch(() => signal.fd, count);
  disarmed.arm();
  disarmed.disarm();
  disarmed.disarm();
  const disposed = watch(() => signal.fd, count);
  disposed.arm();
  disposed[Symbol.dispose]();
  disposed[Symbol.dispose]();
  disposed.arm();
  signal.raise();
  await Bun.sleep(quietMs);
  expect(reports).toBe(0);
  never.disarm();
  // A watch can be armed again after it was disarmed.
  const ready = Promise.withResolvers<void>();
  using again = watch(() => signal.fd, ready.resolve);
  again.arm();
  again.disarm();
  again.arm();
  await ready.promise;
});

bridgeTest(
  "a watch that is disarmed after the descriptor became readable reports nothing",
  async () => {
    using signal = new Signal();
    let reports = 0;
    using watched = watch(
      () => signal.fd,
      () => void reports++,
    );
    signal.raise();
    watched.arm();
    // The poll has completed in the kernel, but the loop has not seen it yet.
    watched.disarm();
    await Bun.sleep(quietMs);
    expect(reports).toBe(0);
  },
);

bridgeTest("200 watches share one bridge", async () => {
  const before = held().descriptors;
  const signals = Array.from({ length: 200 }, () => new Signal());
  const waits = signals.map((signal) => {
    const { promise, resolve } = Promise.withResolvers<void>();
    return { promise, watched: watch(() => signal.fd, resolve) };
  });
  try {
    for (const { watched } of waits) watched.arm();
    // The descriptors of one bridge, and those that Bun needs for it.
    await Bun.sleep(1);
    expect(held().descriptors - before - signals.length).toBeLessThanOrEqual(4);
    // All at once, which is more completions than the kernel's queue can hold.
    for (const signal of signals) signal.raise();
    await Promise.all(waits.map(({ promise }) => promise));
  } finally {
    for (const { watched } of waits) watched[Symbol.dispose]();
    for (const signal of signals) signal[Symbol.dispose]();
  }
});

bridgeTest("onReady can dispose of all watches and create new ones", async () => {
  using first = new Signal();
  using second = new Signal();
  const { promise, resolve } = Promise.withResolvers<void>();
  const watches: Watch[] = [];
  let reports = 0;
  const endAll = () => {
    reports++;
    for (const watched of watches.splice(0)) watched[Symbol.dispose]();
    // The bridge is closed, so this opens another one, inside of a call by the first.
    using _successor = watch(
      () => second.fd,
      () => {},
    );
    resolve();
  };
  watches.push(
    watch(() => first.fd, endAll),
    watch(() => second.fd, endAll),
  );
  for (const watched of watches) watched.arm();
  first.raise();
  second.raise();
  await promise;
  await Bun.sleep(quietMs);
  expect(reports).toBe(1);
  expect(eventLoop.bridge).toBeUndefined();
});

bridgeTest("no wake-up is lost after pauses of any length between waits", async () => {
  using signal = new Signal();
  let ready = Promise.withResolvers<void>();
  using watched = watch(
    () => signal.fd,
    () => ready.resolve(),
  );
  signal.raise();
  // The AIO bridge closes its stream after 10 ms without a wait.
  for (const pause of [0, 5, 9, 10, 11, 12, 15, 25]) {
    ready = Promise.withResolvers();
    watched.arm();
    await ready.promise;
    await Bun.sleep(pause);
  }
});

/** Destroying an AIO context waits for an RCU grace period, which takes tens of milliseconds. */
const rounds = { io_uring: 1000, aio: 30, timer: 1000 } as const;

bridgeTest("repeated opening, waking up and closing leaves nothing open", async (bridge) => {
  const round = async () => {
    using signal = new Signal();
    const { promise, resolve } = Promise.withResolvers<void>();
    using watched = watch(() => signal.fd, resolve);
    watched.arm();
    signal.raise();
    await promise;
    watched.arm();
  };
  await round();
  await Bun.sleep(quietMs);
  const before = held();
  for (let count = 0; count < rounds[bridge]; count++) await round();
  // Bun closes its end of the socket in a later turn of the loop.
  await Bun.sleep(quietMs);
  expect(held()).toEqual(before);
});

bridgeTest(
  "repeated opening and closing without a turn of the loop leaves nothing open",
  async (bridge) => {
    using signal = new Signal();
    const before = held();
    for (let count = 0; count < rounds[bridge]; count++) {
      using watched = watch(
        () => signal.fd,
        () => {},
      );
      watched.arm();
    }
    await Bun.sleep(quietMs);
    expect(held()).toEqual(before);
  },
);

test("an unknown bridge in the environment variable is a TypeError with the known names, and leaves nothing open", () => {
  using signal = new Signal();
  const before = held();
  // @ts-expect-error: wrong on purpose
  withBridge("epoll", () => {
    const attempt = () =>
      watch(
        () => signal.fd,
        () => {},
      );
    expect(attempt).toThrow(TypeError);
    expect(attempt).toThrow(`${bridgeVariable}: expected io_uring, aio or timer, got "epoll"`);
  });
  expect(eventLoop.bridge).toBeUndefined();
  expect(held()).toEqual(before);
});

test("an empty environment variable does not force a bridge", () => {
  using signal = new Signal();
  // @ts-expect-error: wrong on purpose
  withBridge("", () => {
    using _watch = watch(
      () => signal.fd,
      () => {},
    );
    expect(["io_uring", "aio"]).toContain(eventLoop.bridge as string);
  });
});
