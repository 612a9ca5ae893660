// Events in the life of a process while its loop waits: no wake-up is lost, and children inherit no descriptor of the bridge.
import { expect } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { RingBuf, t } from "../../src/index.ts";
import { Producer } from "../ring/producer.ts";
import { bpfObstacle, bpfTest } from "../support/privilege.ts";
import { packageRoot, run, runBun } from "../support/run.ts";
import { hostObstacle, testUnless } from "../support/skipping.ts";
import { bridges, bridgeTest, bridgeVariable } from "./bridges.ts";

/** Creates a subscription that stores its events. */
function collect() {
  const ring = new RingBuf({ size: 65536, event: t.u32 });
  const producer = new Producer(ring);
  const events: number[] = [];
  const subscription = ring.subscribe((event) => void events.push(event));
  return {
    ring,
    producer,
    events,
    subscription,
    [Symbol.dispose]() {
      subscription[Symbol.dispose]();
      producer[Symbol.dispose]();
      ring[Symbol.dispose]();
    },
  };
}

/** Submits a record while the loop sleeps, and waits until it is delivered. */
async function expectWakeUp({ producer, events }: ReturnType<typeof collect>): Promise<void> {
  const { length } = events;
  await Bun.sleep(15);
  producer.putNumber(length);
  for (let left = 1000; events.length === length && left > 0; left--) await Bun.sleep(1);
  expect(events.at(-1)).toBe(length);
}

bridgeTest(
  "children inherit no descriptor of the bridge, and no wake-up is lost",
  async () => {
    using test = collect();
    await expectWakeUp(test);
    const list = ["sh", "-c", "ls -l /proc/self/fd; sleep 0.1"];
    for (let round = 0; round < 5; round++) {
      const child = Bun.spawn(list, { stdout: "pipe", stderr: "ignore" });
      await expectWakeUp(test);
      const open = await child.stdout.text();
      await child.exited;
      expect(open).not.toMatch(/bpf|io_uring|eventfd/);
      await expectWakeUp(test);
    }
  },
  bpfTest,
);

bridgeTest(
  "records that are submitted while a synchronous child blocks the loop are delivered after it",
  async () => {
    using test = collect();
    const { producer, events, ring } = test;
    for (let round = 0; round < 5; round++) {
      await expectWakeUp(test);
      producer.putNumber(events.length);
      Bun.spawnSync(["sleep", "0.02"]);
      producer.putNumber(events.length + 1);
      for (let left = 1000; ring.backlog > 0 && left > 0; left--) await Bun.sleep(1);
      expect(events).toEqual(events.map((_, index) => index));
    }
    await expectWakeUp(test);
  },
  bpfTest,
);

bridgeTest(
  "a loop that was busy gets one wake-up for all records of that time, and wakes up again later",
  async () => {
    using test = collect();
    const { producer, events, ring } = test;
    await expectWakeUp(test);
    const { wakeups } = ring.stats;
    const end = performance.now() + 150;
    for (let value = events.length; performance.now() < end; value++) {
      if (value < 2000) producer.putNumber(value);
    }
    await Bun.sleep(20);
    for (let tries = 0; tries < 500 && ring.backlog > 0; tries++) await Bun.sleep(10);
    expect(ring.backlog).toBe(0);
    expect(events).toEqual(events.map((_, index) => index));
    expect(ring.stats.wakeups - wakeups).toBeLessThanOrEqual(3);
    await expectWakeUp(test);
  },
  bpfTest,
);

bridgeTest(
  "signals that the process handles do not end a wait",
  async () => {
    using test = collect();
    let signals = 0;
    const count = () => void signals++;
    process.on("SIGUSR2", count);
    try {
      for (let round = 0; round < 20; round++) {
        process.kill(process.pid, "SIGUSR2");
        await expectWakeUp(test);
      }
    } finally {
      process.off("SIGUSR2", count);
    }
    expect(signals).toBeGreaterThan(0);
  },
  bpfTest,
);

for (const { name, obstacle } of bridges) {
  testUnless(bpfObstacle ?? obstacle)(
    `${name}: a process that is stopped and continued loses no record`,
    async () => {
      const child = Bun.spawn([process.execPath, `${import.meta.dir}/children/counting.ts`], {
        cwd: packageRoot,
        env: { ...process.env, [bridgeVariable]: name },
        stdout: "pipe",
        stderr: "pipe",
      });
      for (let round = 0; round < 3; round++) {
        await Bun.sleep(120);
        child.kill("SIGSTOP");
        await Bun.sleep(60);
        child.kill("SIGCONT");
      }
      const [stdout, stderr] = await Promise.all([child.stdout.text(), child.stderr.text()]);
      await child.exited;
      expect({ exitCode: child.exitCode, stdout, stderr }).toEqual({
        exitCode: 0,
        stdout: "100 in order\n",
        stderr: "",
      });
    },
    20_000,
  );
}

// This depends on the engine, not on the kernel, and compiling takes long on an emulated machine.
testUnless(bpfObstacle ?? hostObstacle)(
  "a consumer works in executables of bun build --compile, also minified and with bytecode",
  async () => {
    const folder = mkdtempSync(join(tmpdir(), "compiled-"));
    try {
      for (const flags of [[], ["--minify", "--bytecode", "--format=cjs"]]) {
        const file = join(folder, `counting-${flags.length}`);
        const source = `${import.meta.dir}/children/counting.ts`;
        const built = await runBun(["build", "--compile", ...flags, source, "--outfile", file]);
        expect({ flags, exitCode: built.exitCode, stderr: built.stderr }).toMatchObject({
          exitCode: 0,
        });
        expect(await run([file], { cwd: folder })).toMatchObject({
          exitCode: 0,
          stdout: "100 in order\n",
          stderr: "",
        });
      }
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  },
  60_000,
);
