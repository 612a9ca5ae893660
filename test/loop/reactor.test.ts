import { expect, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { eventLoop, type Watch, watch } from "../../src/loop/event_loop.ts";
import { bridgeTest, bridgeVariable, Signal, withBridge } from "./bridges.ts";

/** Long enough for a wake-up that should not come to come. */
const quietMilliseconds = 30;

/** Descriptors of this process, and mappings of the bridges. */
function held(): { descriptors: number; mappings: number } {
  const mappings = readFileSync("/proc/self/maps", "utf8")
    .split("\n")
    .filter((line) => /io_uring|\[aio\]/.test(line)).length;
  return { descriptors: readdirSync("/proc/self/fd").length, mappings };
}

bridgeTest("reports a descriptor that becomes readable, once for each arming", async (bridge) => {
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
  await Bun.sleep(quietMilliseconds);
  expect(reports).toBe(1);
  // It is readable still: that is reported at once.
  ready = Promise.withResolvers();
  watched.arm();
  await ready.promise;
  expect(reports).toBe(2);
});

bridgeTest("reports nothing that was not asked for, or was taken back", async () => {
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
  await Bun.sleep(quietMilliseconds);
  expect(reports).toBe(0);
  never.disarm();
  // A wait that was taken back may be begun again.
  const ready = Promise.withResolvers<void>();
  using again = watch(() => signal.fd, ready.resolve);
  again.arm();
  again.disarm();
  again.arm();
  await ready.promise;
});

bridgeTest("a wait that is taken back after the descriptor became readable is silent", async () => {
  using signal = new Signal();
  let reports = 0;
  using watched = watch(
    () => signal.fd,
    () => void reports++,
  );
  signal.raise();
  watched.arm();
  // The kernel has reported it already, but the loop has not had its turn.
  watched.disarm();
  await Bun.sleep(quietMilliseconds);
  expect(reports).toBe(0);
});

bridgeTest("many wait at once over one bridge", async () => {
  const before = held().descriptors;
  const signals = Array.from({ length: 200 }, () => new Signal());
  const waits = signals.map((signal) => {
    const { promise, resolve } = Promise.withResolvers<void>();
    return { promise, watched: watch(() => signal.fd, resolve) };
  });
  try {
    for (const { watched } of waits) watched.arm();
    // One bridge: its own descriptors and those that Bun needs for it, however many wait.
    await Bun.sleep(1);
    expect(held().descriptors - before - signals.length).toBeLessThanOrEqual(4);
    // All in one go, which is more completions than the kernel's queue holds.
    for (const signal of signals) signal.raise();
    await Promise.all(waits.map(({ promise }) => promise));
  } finally {
    for (const { watched } of waits) watched[Symbol.dispose]();
    for (const signal of signals) signal[Symbol.dispose]();
  }
});

bridgeTest("whoever is woken may end all waits, begin new ones, or both", async () => {
  using first = new Signal();
  using second = new Signal();
  const { promise, resolve } = Promise.withResolvers<void>();
  const watches: Watch[] = [];
  let reports = 0;
  const endAll = () => {
    reports++;
    for (const watched of watches.splice(0)) watched[Symbol.dispose]();
    // The bridge is gone: this opens another one, from inside a call of the first.
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
  await Bun.sleep(quietMilliseconds);
  expect(reports).toBe(1);
  expect(eventLoop.bridge).toBeUndefined();
});

bridgeTest("pauses of any length between waits lose nothing", async () => {
  using signal = new Signal();
  let ready = Promise.withResolvers<void>();
  using watched = watch(
    () => signal.fd,
    () => ready.resolve(),
  );
  signal.raise();
  // The AIO bridge stops its read of the counter after 10 ms without a wait.
  for (const pause of [0, 5, 9, 10, 11, 12, 15, 25]) {
    ready = Promise.withResolvers();
    watched.arm();
    await ready.promise;
    await Bun.sleep(pause);
  }
});

/** Each end of an AIO context waits for a grace period of the kernel's, tens of milliseconds. */
const rounds = { io_uring: 1000, aio: 30, timer: 1000 } as const;

bridgeTest("rounds of opening, waking up and closing leave nothing behind", async (bridge) => {
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
  await Bun.sleep(quietMilliseconds);
  const before = held();
  for (let count = 0; count < rounds[bridge]; count++) await round();
  // Bun closes its end of the socket in a later turn of the loop.
  await Bun.sleep(quietMilliseconds);
  expect(held()).toEqual(before);
});

bridgeTest("rounds without a turn of the loop leave nothing behind", async (bridge) => {
  using signal = new Signal();
  const before = held();
  for (let count = 0; count < rounds[bridge]; count++) {
    using watched = watch(
      () => signal.fd,
      () => {},
    );
    watched.arm();
  }
  await Bun.sleep(quietMilliseconds);
  expect(held()).toEqual(before);
});

test("an unknown bridge is a TypeError that names those there are, and nothing is left open", () => {
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

test("an empty value of the variable forces nothing", () => {
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
