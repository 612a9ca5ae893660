import { expect, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { BridgeName } from "../../src/loop/bridge.ts";
import { commandObstacle } from "../support/commands.ts";
import { bpfObstacle, bpfTest } from "../support/privilege.ts";
import { packageRoot, runBun } from "../support/run.ts";
import { testUnless } from "../support/skipping.ts";
import { bridges, bridgeVariable } from "./bridges.ts";

const children = `${import.meta.dir}/children`;
const timeout = 20_000;

for (const { name, obstacle } of bridges) {
  testUnless(obstacle)(
    `${name}: a watch keeps the process alive while it is armed, and only then`,
    async () => {
      const env = { [bridgeVariable]: name };
      const ended = await runBun([`${children}/armed_or_not.ts`], { timeout, env });
      expect(ended).toMatchObject({ exitCode: 0, stdout: "ready\nexit\n", stderr: "" });
    },
  );
}

test("AIO is used where io_uring is forbidden", async () => {
  const args = [`${children}/forbidden.ts`, "io_uring_setup"];
  const ended = await runBun(args, { timeout, env: { [bridgeVariable]: "" } });
  expect(ended.stdout).toContain("woken by aio");
  expect(ended).toMatchObject({ exitCode: 0, stderr: "" });
});

test("a timer is used where both are forbidden, and refusals has the error of each", async () => {
  const args = [`${children}/forbidden.ts`, "io_uring_setup", "io_setup"];
  const ended = await runBun(args, { timeout, env: { [bridgeVariable]: "" } });
  expect(ended).toMatchObject({ exitCode: 0, stderr: "" });
  expect(ended.stdout).toContain("woken by timer");
  expect(ended.stdout).toContain("io_uring_setup: EPERM");
  expect(ended.stdout).toContain("io_setup: EPERM");
});

test("AIO is used where only io_uring_enter is forbidden", async () => {
  const args = [`${children}/forbidden.ts`, "io_uring_enter"];
  const ended = await runBun(args, { timeout, env: { [bridgeVariable]: "" } });
  expect(ended).toMatchObject({ exitCode: 0, stderr: "" });
  expect(ended.stdout).toContain("woken by aio");
  expect(ended.stdout).toContain("io_uring_enter: EPERM");
});

/** Returns how often the threads of a process have woken up, and for how many hundredths of a second they have run. */
function activity(pid: number): { wakeUps: number; ticks: number } {
  let wakeUps = 0;
  for (const task of readdirSync(`/proc/${pid}/task`)) {
    const status = readFileSync(`/proc/${pid}/task/${task}/status`, "utf8");
    wakeUps += Number(/^voluntary_ctxt_switches:\s*(\d+)/m.exec(status)?.[1]);
  }
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]?.split(" ") ?? [];
  return { wakeUps, ticks: Number(fields[11]) + Number(fields[12]) };
}

/** Activity of a process while it waits. */
interface Waiting {
  readonly wakeUps: number;
  readonly ticks: number;
  /** System calls that only this library makes, as lines of strace. Empty if strace is not installed. */
  readonly calls: string;
}

/** Starts a child, waits until it is idle, and observes it: first untraced, then with strace. */
async function observe(file: string, bridge: BridgeName | ""): Promise<Waiting> {
  await using child = Bun.spawn([process.execPath, `${children}/${file}`], {
    cwd: packageRoot,
    env: { ...process.env, [bridgeVariable]: bridge },
    stdout: "pipe",
  });
  await child.stdout.getReader().read();
  // The threads of the compiler and the garbage collector are busy for a while after the start.
  await Bun.sleep(1000);
  try {
    const before = activity(child.pid);
    await Bun.sleep(2500);
    const after = activity(child.pid);
    return {
      wakeUps: after.wakeUps - before.wakeUps,
      ticks: after.ticks - before.ticks,
      calls: traceObstacle === undefined ? await tracedCalls(child.pid) : "",
    };
  } finally {
    child.kill("SIGKILL");
  }
}

const traceObstacle = commandObstacle("strace");

/** The bridges by which the kernel wakes the loop. A timer polls instead. */
const usable = bridges.filter(({ name, obstacle }) => obstacle === undefined && name !== "timer");

let observed: Promise<Waiting[]> | undefined;

/** Observes an idle Bun, and a process that waits for a ring by each bridge, in parallel and once for all tests. */
function observeAll(): Promise<Waiting[]> {
  observed ??= Promise.all([
    observe("idle_bun.ts", ""),
    ...usable.map(({ name }) => observe("idle_ring.ts", name)),
  ]);
  return observed;
}

bpfTest(
  "a process that waits for a ring wakes up no more often than an idle Bun",
  async () => {
    const [own, ...waiting] = (await observeAll()).map(({ wakeUps, ticks }) => ({
      wakeUps,
      ticks,
    }));
    for (const [index, seen] of waiting.entries()) {
      const { name } = usable[index]!;
      // Timers of Bun's garbage collector fire 5 to 15 times a second. Polling every 20 ms would be 125 wake-ups in this time.
      expect({ name, seen, own }).toSatisfy(() => seen.wakeUps <= own!.wakeUps + 60);
      expect({ name, seen, own }).toSatisfy(() => seen.ticks <= own!.ticks + 3);
    }
  },
  15_000,
);

/** The system calls that only this library makes: each would mean a wake-up by this library. */
const ownCalls = "bpf,io_uring_enter,io_submit,io_getevents,io_cancel,recvfrom,ioctl";

/** Returns the calls of {@link ownCalls} that a process makes in two seconds. */
async function tracedCalls(pid: number): Promise<string> {
  const log = join(tmpdir(), `bun-bpf-strace-${pid}`);
  const args = [`--trace=${ownCalls}`, "-f", "-qq", "--signal=none", "-o", log, "-p", `${pid}`];
  const tracer = Bun.spawn(["strace", ...args], { stdout: "ignore", stderr: "ignore" });
  await Bun.sleep(2000);
  tracer.kill("SIGINT");
  await tracer.exited;
  const calls = await Bun.file(log).text();
  await rm(log);
  return calls;
}

testUnless(bpfObstacle ?? traceObstacle)(
  "a process that waits for a ring makes no system call",
  async () => {
    const [, ...waiting] = await observeAll();
    for (const { calls } of waiting) expect(calls).toBe("");
  },
  15_000,
);
