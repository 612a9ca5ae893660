// What may happen to a process while its loop waits: no wake-up is lost, and nothing of its bridge reaches a child.
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

/** A subscription that notes what it is called with. */
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

/** Puts a record while the loop sleeps, and waits until it came. */
async function expectWakeUp({ producer, events }: ReturnType<typeof collect>): Promise<void> {
  const { length } = events;
  await Bun.sleep(15);
  producer.putNumber(length);
  for (let left = 1000; events.length === length && left > 0; left--) await Bun.sleep(1);
  expect(events.at(-1)).toBe(length);
}

bridgeTest(
  "children that are started inherit nothing of it, and take no wake-up away",
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
  "a synchronous child stalls the loop, and what came meanwhile comes after it",
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
  "a loop that is busy for long gets one wake-up for all that came, and then the next",
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
  "signals that the process handles interrupt no wait",
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
    `${name}: a process that is stopped and continued goes on where it was`,
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

// What is in the executable is the engine's matter, and making it takes an emulated processor long.
testUnless(bpfObstacle ?? hostObstacle)(
  "it works in an executable that bun build --compile makes, minified and with bytecode",
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
