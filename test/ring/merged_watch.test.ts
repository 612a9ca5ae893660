// One watch for several descriptors, with each bridge.
import { expect } from "bun:test";
import { closeSync, constants, mkdtempSync, openSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { MergedWatch, type WatchedSource } from "../../src/ring/perf_cpus.ts";
import { bridgeTest, Signal } from "../loop/bridges.ts";

/** Milliseconds in which every bridge reports, and a spinning one reports many times. */
const settleMilliseconds = 60;

/** Waits for this number of reports, on a slow machine too, and expects no more. */
async function expectReports(reports: () => number, count: number): Promise<void> {
  for (let left = 2000; reports() < count && left > 0; left--) await Bun.sleep(1);
  await Bun.sleep(settleMilliseconds);
  expect(reports()).toBe(count);
}

/** A source that is never due although its descriptor, an eventfd, stays ready. */
function sourceOf(signal: { readonly fd: number }): WatchedSource {
  return { fd: signal.fd, isDue: false };
}

/** A descriptor that reports a hang-up: the read end of a pipe after its last writer was closed. */
function hungUp(): { readonly fd: number } & Disposable {
  const folder = mkdtempSync(join(tmpdir(), "merged-watch-"));
  const path = join(folder, "pipe");
  Bun.spawnSync(["mkfifo", path]);
  const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  // A pipe that never had a writer does not report a hang-up.
  closeSync(openSync(path, constants.O_WRONLY));
  rmSync(folder, { recursive: true });
  return { fd, [Symbol.dispose]: () => closeSync(fd) };
}

bridgeTest("a ready descriptor is reported once per arming", async () => {
  using first = new Signal();
  using second = new Signal();
  let reports = 0;
  using watch = new MergedWatch([sourceOf(first), sourceOf(second)], () => void reports++);
  watch.arm();
  await Bun.sleep(settleMilliseconds);
  expect(reports).toBe(0);
  second.raise();
  await expectReports(() => reports, 1);
  watch.arm();
  watch.arm();
  await expectReports(() => reports, 2);
});

bridgeTest("descriptors that become ready together are reported together", async () => {
  const signals = Array.from({ length: 8 }, () => new Signal());
  let reports = 0;
  {
    using watch = new MergedWatch(
      signals.map((signal) => sourceOf(signal)),
      () => void reports++,
    );
    for (const signal of signals) signal.raise();
    watch.arm();
    await Bun.sleep(settleMilliseconds);
  }
  for (const signal of signals) signal[Symbol.dispose]();
  expect(reports).toBe(1);
});

bridgeTest("a disarmed watch does not report, and reports after it is armed again", async () => {
  using signal = new Signal();
  let reports = 0;
  using watch = new MergedWatch([sourceOf(signal)], () => void reports++);
  watch.arm();
  watch.disarm();
  signal.raise();
  await Bun.sleep(settleMilliseconds);
  expect(reports).toBe(0);
  watch.arm();
  await expectReports(() => reports, 1);
});

bridgeTest(
  "a hang-up does not make the watch spin, and the other descriptors are reported",
  async () => {
    using signal = new Signal();
    using dead = hungUp();
    let reports = 0;
    const watch = new MergedWatch([sourceOf(dead), sourceOf(signal)], () => {
      reports++;
      watch.arm();
    });
    watch.arm();
    await Bun.sleep(settleMilliseconds);
    watch.disarm();
    watch.arm();
    await Bun.sleep(settleMilliseconds);
    expect(reports).toBe(0);
    watch[Symbol.dispose]();
    using other = new MergedWatch([sourceOf(dead), sourceOf(signal)], () => void reports++);
    other.arm();
    signal.raise();
    await expectReports(() => reports, 1);
  },
);

bridgeTest("unread records of a descriptor are reported before its hang-up", async () => {
  using dead = hungUp();
  let isDue = true;
  let reports = 0;
  const source = {
    fd: dead.fd,
    get isDue() {
      return isDue;
    },
  };
  using watch = new MergedWatch([source], () => {
    reports++;
    isDue = false;
    watch.arm();
  });
  watch.arm();
  await expectReports(() => reports, 1);
});

bridgeTest("a due source is reported without a wake-up", async () => {
  using silent = new Signal();
  let isDue = true;
  let asked = 0;
  let reports = 0;
  const source = {
    fd: silent.fd,
    get isDue() {
      asked++;
      return isDue;
    },
  };
  using watch = new MergedWatch([source], () => {
    reports++;
    isDue = false;
    watch.arm();
  });
  // A source that is due when the wait starts is reported.
  watch.arm();
  await Promise.resolve();
  expect(reports).toBe(1);
  // A source that becomes due soon after the start of the wait is reported.
  isDue = true;
  await expectReports(() => reports, 2);
  // Later the watch no longer asks the source.
  const askedBefore = asked;
  await Bun.sleep(settleMilliseconds);
  expect(asked).toBe(askedBefore);
});

bridgeTest("disposal cancels a pending report", async () => {
  using silent = new Signal();
  let reports = 0;
  const watch = new MergedWatch([{ fd: silent.fd, isDue: true }], () => void reports++);
  watch.arm();
  watch[Symbol.dispose]();
  await Bun.sleep(settleMilliseconds);
  expect(reports).toBe(0);
});
