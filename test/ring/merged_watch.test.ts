// Several descriptors that are waited for as one, by each bridge.
import { expect } from "bun:test";
import { closeSync, constants, mkdtempSync, openSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { MergedWatch, type WatchedSource } from "../../src/ring/perf_cpus.ts";
import { bridgeTest, Signal } from "../loop/bridges.ts";

/** Long enough for every bridge to report, and for one that spins to be seen spinning. */
const aWhile = 60;

/** Expects as many reports, however slow the machine is, and no more. */
async function expectReports(reports: () => number, count: number): Promise<void> {
  for (let left = 2000; reports() < count && left > 0; left--) await Bun.sleep(1);
  await Bun.sleep(aWhile);
  expect(reports()).toBe(count);
}

/** A source that says of itself that nothing was written: an eventfd stays ready once it is. */
function sourceOf(signal: { readonly fd: number }): WatchedSource {
  return { fd: signal.fd, isDue: false };
}

/** A descriptor that hung up: the reading end of a pipe whose last writer is gone. */
function hungUp(): { readonly fd: number } & Disposable {
  const folder = mkdtempSync(join(tmpdir(), "merged-watch-"));
  const path = join(folder, "pipe");
  Bun.spawnSync(["mkfifo", path]);
  const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  // A pipe without a writer that never had one is not hung up yet.
  closeSync(openSync(path, constants.O_WRONLY));
  rmSync(folder, { recursive: true });
  return { fd, [Symbol.dispose]: () => closeSync(fd) };
}

bridgeTest("one of several that is ready is reported, once for each arming", async () => {
  using first = new Signal();
  using second = new Signal();
  let reports = 0;
  using watch = new MergedWatch([sourceOf(first), sourceOf(second)], () => void reports++);
  watch.arm();
  await Bun.sleep(aWhile);
  expect(reports).toBe(0);
  second.raise();
  await expectReports(() => reports, 1);
  watch.arm();
  watch.arm();
  await expectReports(() => reports, 2);
});

bridgeTest("those that become ready together are reported together", async () => {
  const signals = Array.from({ length: 8 }, () => new Signal());
  let reports = 0;
  {
    using watch = new MergedWatch(
      signals.map((signal) => sourceOf(signal)),
      () => void reports++,
    );
    for (const signal of signals) signal.raise();
    watch.arm();
    await Bun.sleep(aWhile);
  }
  for (const signal of signals) signal[Symbol.dispose]();
  expect(reports).toBe(1);
});

bridgeTest("nothing is reported while it is not armed, and it is when it is again", async () => {
  using signal = new Signal();
  let reports = 0;
  using watch = new MergedWatch([sourceOf(signal)], () => void reports++);
  watch.arm();
  watch.disarm();
  signal.raise();
  await Bun.sleep(aWhile);
  expect(reports).toBe(0);
  watch.arm();
  await expectReports(() => reports, 1);
});

bridgeTest("one that hung up does not make it spin, and the others are heard", async () => {
  using signal = new Signal();
  using dead = hungUp();
  let reports = 0;
  const watch = new MergedWatch([sourceOf(dead), sourceOf(signal)], () => {
    reports++;
    watch.arm();
  });
  watch.arm();
  await Bun.sleep(aWhile);
  watch.disarm();
  watch.arm();
  await Bun.sleep(aWhile);
  expect(reports).toBe(0);
  watch[Symbol.dispose]();
  using other = new MergedWatch([sourceOf(dead), sourceOf(signal)], () => void reports++);
  other.arm();
  signal.raise();
  await expectReports(() => reports, 1);
});

bridgeTest("what a descriptor that hung up has left is reported before", async () => {
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

bridgeTest("what is due is reported although no wake-up came", async () => {
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
  // When the wait begins,
  watch.arm();
  await Promise.resolve();
  expect(reports).toBe(1);
  // a little later,
  isDue = true;
  await expectReports(() => reports, 2);
  // and not for ever.
  const askedBefore = asked;
  await Bun.sleep(aWhile);
  expect(asked).toBe(askedBefore);
});

bridgeTest("disposal takes back a report that is on its way", async () => {
  using silent = new Signal();
  let reports = 0;
  const watch = new MergedWatch([{ fd: silent.fd, isDue: true }], () => void reports++);
  watch.arm();
  watch[Symbol.dispose]();
  await Bun.sleep(aWhile);
  expect(reports).toBe(0);
});
