import { expect } from "bun:test";
import { monotonicNanoseconds, monotonicToDate } from "../../src/index.ts";
import { testUnless } from "../support/skipping.ts";

const linuxTest = testUnless(process.platform === "linux" ? undefined : "the clock is Linux's");

linuxTest("the monotonic clock goes on, in nanoseconds", async () => {
  const before = monotonicNanoseconds();
  await Bun.sleep(20);
  const passed = monotonicNanoseconds() - before;
  expect(passed).toBeGreaterThan(19e6);
  expect(passed).toBeLessThan(10e9);
});

linuxTest("dates a time of the monotonic clock by the time of day", () => {
  const before = Date.now();
  const date = monotonicToDate(monotonicNanoseconds()).getTime();
  const after = Date.now();
  // A millisecond for the rounding of either.
  expect(date).toBeGreaterThanOrEqual(before - 1);
  expect(date).toBeLessThanOrEqual(after + 1);
});

linuxTest("takes bigints as well", () => {
  const time = Math.floor(monotonicNanoseconds());
  expect(monotonicToDate(BigInt(time))).toEqual(monotonicToDate(time));
});

linuxTest(
  "gives one date for one time, however often and long after",
  async () => {
    const time = monotonicNanoseconds();
    const dates = new Set<number>();
    // Over more than two seconds, in which the clocks are read anew twice.
    for (let round = 0; round < 22; round++) {
      for (let i = 0; i < 10_000; i++) dates.add(monotonicToDate(time).getTime());
      await Bun.sleep(100);
    }
    expect([...dates]).toHaveLength(1);
  },
  20_000,
);

linuxTest("keeps the order of times, and how far apart they are", () => {
  const start = monotonicNanoseconds();
  let last = monotonicToDate(start).getTime();
  for (let i = 1; i <= 20_000; i++) {
    const date = monotonicToDate(start + i * 50_000).getTime();
    expect(date).toBeGreaterThanOrEqual(last);
    expect(date).toBeLessThanOrEqual(last + 1);
    last = date;
  }
});
