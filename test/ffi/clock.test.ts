import { expect } from "bun:test";
import { monotonicNanoseconds, monotonicToDate } from "../../src/index.ts";
import { testUnless } from "../support/skipping.ts";

const linuxTest = testUnless(process.platform === "linux" ? undefined : "the clock is Linux's");

linuxTest("monotonicNanoseconds advances by the nanoseconds that pass", async () => {
  const before = monotonicNanoseconds();
  await Bun.sleep(20);
  const passed = monotonicNanoseconds() - before;
  expect(passed).toBeGreaterThan(19e6);
  expect(passed).toBeLessThan(10e9);
});

linuxTest("monotonicToDate returns the time of day", () => {
  const before = Date.now();
  const date = monotonicToDate(monotonicNanoseconds()).getTime();
  const after = Date.now();
  // Date.now() is rounded to milliseconds.
  expect(date).toBeGreaterThanOrEqual(before - 1);
  expect(date).toBeLessThanOrEqual(after + 1);
});

linuxTest("monotonicToDate accepts bigints", () => {
  const time = Math.floor(monotonicNanoseconds());
  expect(monotonicToDate(BigInt(time))).toEqual(monotonicToDate(time));
});

linuxTest(
  "monotonicToDate returns the same date for the same time, also seconds later",
  async () => {
    const time = monotonicNanoseconds();
    const dates = new Set<number>();
    // The clocks are compared again once per second: twice during this loop.
    for (let round = 0; round < 22; round++) {
      for (let i = 0; i < 10_000; i++) dates.add(monotonicToDate(time).getTime());
      await Bun.sleep(100);
    }
    expect([...dates]).toHaveLength(1);
  },
  20_000,
);

linuxTest("monotonicToDate keeps the order and the distances of times", () => {
  const start = monotonicNanoseconds();
  let last = monotonicToDate(start).getTime();
  for (let i = 1; i <= 20_000; i++) {
    const date = monotonicToDate(start + i * 50_000).getTime();
    expect(date).toBeGreaterThanOrEqual(last);
    expect(date).toBeLessThanOrEqual(last + 1);
    last = date;
  }
});
