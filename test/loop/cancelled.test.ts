import { expect } from "bun:test";
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { isKernelSince } from "../../src/ffi/kernel.ts";
import { watch } from "../../src/loop/event_loop.ts";
import { runBun } from "../support/run.ts";
import { testUnless } from "../support/skipping.ts";
import { bridges, bridgeTest, bridgeVariable, Signal } from "./bridges.ts";
import { repetitions } from "../support/effort.ts";

/** Counts the completions that the kernel holds for this process's io_uring: in the queue, and in its overflow list. */
function heldCompletions(): number {
  let held = 0;
  for (const fd of readdirSync("/proc/self/fd")) {
    try {
      if (!readlinkSync(`/proc/self/fd/${fd}`).includes("[io_uring]")) continue;
    } catch {
      continue;
    }
    const text = readFileSync(`/proc/self/fdinfo/${fd}`, "utf8");
    const number = (name: string) => Number(new RegExp(`^${name}:\\s*(\\d+)`, "m").exec(text)?.[1]);
    const overflow = text.slice(text.indexOf("CqOverflowList:"));
    held += number("CqTail") - number("CqHead") + (overflow.match(/user_data=/g)?.length ?? 0);
  }
  return held;
}

bridgeTest(
  "cancelled waits leave no completions in the kernel, also without a wake-up",
  async (name) => {
    using signal = new Signal();
    using other = new Signal();
    let reports = 0;
    // Keeps the bridge open, with a pending wait.
    using kept = watch(
      () => other.fd,
      () => void reports++,
    );
    kept.arm();
    using watched = watch(
      () => signal.fd,
      () => expect.unreachable(),
    );
    // More than the limit of AIO for pending polls, and than the capacity of io_uring's queue, without a turn of the loop.
    for (let round = 0; round < repetitions(20_000); round++) {
      watched.arm();
      watched.disarm();
    }
    // fdinfo shows completions in kernel 6.1, but not in 5.10.
    if (name === "io_uring" && isKernelSince("6.1")) expect(heldCompletions()).toBe(0);
    other.raise();
    await Bun.sleep(30);
    expect(reports).toBe(1);
  },
);

bridgeTest("a cancelled wait does not lose the wake-ups of other waits", async () => {
  const signals = Array.from({ length: 20 }, () => new Signal());
  using silent = new Signal();
  for (let round = 0; round < 20; round++) {
    const woken: number[] = [];
    const watches = signals.map((signal, index) =>
      watch(
        () => signal.fd,
        () => void woken.push(index),
      ),
    );
    using taken = watch(
      () => silent.fd,
      () => expect.unreachable(),
    );
    for (const watched of watches) watched.arm();
    taken.arm();
    // All polls complete in the kernel before the next turn of the loop, so the cancellation finds their completions.
    for (const signal of signals) signal.raise();
    taken.disarm();
    taken.arm();
    taken.disarm();
    await Bun.sleep(5);
    expect(woken.toSorted((a, b) => a - b)).toEqual(signals.map((_, index) => index));
    for (const watched of watches) watched[Symbol.dispose]();
  }
  for (const signal of signals) signal[Symbol.dispose]();
});

bridgeTest("a wait that onReady cancels does not lose the wake-ups of other waits", async () => {
  using silent = new Signal();
  using late = new Signal();
  using early = new Signal();
  const ready = Promise.withResolvers<void>();
  using taken = watch(
    () => silent.fd,
    () => expect.unreachable(),
  );
  using second = watch(() => late.fd, ready.resolve);
  using first = watch(
    () => early.fd,
    () => {
      late.raise();
      taken.disarm();
    },
  );
  for (const watched of [taken, second, first]) watched.arm();
  early.raise();
  await ready.promise;
});

for (const { name, obstacle } of bridges) {
  testUnless(obstacle)(
    `${name}: an error in onReady is an uncaught exception, and other watches are woken`,
    async () => {
      const child = `${import.meta.dir}/children/throwing_consumer.ts`;
      const ended = await runBun([child], { timeout: 20_000, env: { [bridgeVariable]: name } });
      const errors = ["0", "2", "4"].map((index) => `uncaught: error of ${index}`);
      expect(ended).toMatchObject({ exitCode: 0, stderr: "" });
      expect(ended.stdout.trim().split("\n").toSorted()).toEqual(
        ["again: 1 3 5", ...errors, "woken: 1 3 5"].toSorted(),
      );
    },
  );
}

testUnless(bridges[0]?.obstacle)(
  "an io_uring instance that stays busy is an error after several retries",
  async () => {
    const child = `${import.meta.dir}/children/forbidden.ts`;
    const env = { [bridgeVariable]: "io_uring", FORBIDDEN_ERRNO: "16" };
    const ended = await runBun([child, "io_uring_enter"], { timeout: 20_000, env });
    expect(ended.stdout).toContain("cannot wait for a descriptor: io_uring_enter: EBUSY");
    expect(ended).toMatchObject({ exitCode: 0, stderr: "" });
  },
);
