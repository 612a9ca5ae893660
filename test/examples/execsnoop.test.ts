import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { copyFileSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { bpfTest } from "../support/privilege.ts";
import { packageRoot, run, runBun } from "../support/run.ts";

const script = join(packageRoot, "examples/execsnoop.ts");

interface Started {
  readonly time: string;
  readonly pid: number;
  readonly ppid: number;
  readonly uid: number;
  readonly comm: string;
  readonly filename: string;
  readonly args: readonly string[];
  readonly argsCutOff?: boolean;
  readonly ret?: number;
  readonly error?: string;
}

let folder = "";
/** A program that nothing else on this machine starts. */
let marked = "";

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "execsnoop-"));
  marked = join(folder, "marked");
  copyFileSync("/bin/true", marked);
});

afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** The script in the background: attached once this resolves. */
async function start(...args: string[]) {
  const child = Bun.spawn([process.execPath, script, ...args], {
    stdout: "pipe",
    stderr: "pipe",
    stdin: "ignore",
    timeout: 60_000,
  });
  const reader = child.stdout.getReader();
  const decoder = new TextDecoder();
  let text = "";
  const more = async (): Promise<boolean> => {
    const { done, value } = await reader.read();
    if (!done) text += decoder.decode(value, { stream: true });
    return !done;
  };
  const until = async (wanted: string): Promise<void> => {
    while (!text.includes(wanted)) {
      if (!(await more())) throw new Error(`it ended without "${wanted}": ${text}`);
    }
  };
  if (args.includes("--json")) {
    // It prints nothing of its own then: programs are started until the first one is seen.
    const timer = setInterval(() => Bun.spawnSync([marked, "ready?"]), 20);
    await until("ready?");
    clearInterval(timer);
  } else {
    await until("ARGS");
  }
  const finish = async (signal: NodeJS.Signals) => {
    child.kill(signal);
    while (await more());
    await child.exited;
    const stderr = await child.stderr.text();
    return { stdout: text, stderr, exitCode: child.exitCode };
  };
  return { pid: child.pid, child, until, finish };
}

function records(stdout: string): Started[] {
  return stdout
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line) as Started);
}

describe("execsnoop", () => {
  bpfTest("shows a program that starts, with all that identifies it", async () => {
    const snoop = await start("--json");
    const child = Bun.spawn([marked, "one", "two words", "ünï"]);
    await child.exited;
    await snoop.until("two words");
    const { stdout, stderr, exitCode } = await snoop.finish("SIGINT");
    expect(exitCode).toBe(0);
    expect(stderr).toMatch(/^\d+ seen, 0 lost\n$/);
    const record = records(stdout).find(({ args }) => args[1] === "one");
    expect(record).toMatchObject({
      pid: child.pid,
      ppid: process.pid,
      uid: process.getuid?.() ?? 0,
      comm: "marked",
      filename: marked,
      args: [marked, "one", "two words", "ünï"],
    });
    const age = Date.now() - Date.parse(record?.time ?? "");
    expect(Math.abs(age)).toBeLessThan(60_000);
  });

  bpfTest("says that arguments are cut off", async () => {
    const snoop = await start("--json");
    Bun.spawnSync([marked, "x".repeat(2000), "end"]);
    await snoop.until("xxx");
    const { stdout } = await snoop.finish("SIGINT");
    const record = records(stdout).find(({ args }) => args[1]?.startsWith("xxx"));
    expect(record?.argsCutOff).toBe(true);
    expect(record?.args.join("\0").length).toBe(1024);
  });

  bpfTest("shows failed attempts with the error, if asked", async () => {
    const snoop = await start("--json", "--failed");
    const missing = join(folder, "missing");
    Bun.spawnSync(["bash", "-c", `exec ${missing} first second`], { stderr: "ignore" });
    Bun.spawnSync(["bash", "-c", `exec ${folder} third`], { stderr: "ignore" });
    await snoop.until("third");
    Bun.spawnSync([marked, "last"]);
    await snoop.until('"last"');
    const { stdout } = await snoop.finish("SIGINT");
    const all = records(stdout);
    expect(all.find(({ args }) => args[1] === "first" && args[0] === missing)).toMatchObject({
      filename: missing,
      comm: "bash",
      args: [missing, "first", "second"],
      error: "ENOENT",
    });
    expect(all.find(({ filename }) => filename === folder)?.error).toBe("EACCES");
    expect(all.find(({ args }) => args[1] === "last")?.ret).toBe(0);
  });

  bpfTest("prints aligned columns without colours where there is no terminal", async () => {
    const snoop = await start("--name", "^marked$");
    Bun.spawnSync([marked, "plain", "\u001b[31mred"]);
    Bun.spawnSync(["/bin/true", "other"]);
    await snoop.until("plain");
    const { stdout, stderr } = await snoop.finish("SIGTERM");
    const [heading = "", line = "", ...rest] = stdout.trimEnd().split("\n");
    expect(rest).toEqual([]);
    expect(stdout).not.toContain("\u001b");
    expect(heading).toMatch(/^TIME +PID +PPID +UID +COMM +FILENAME +ARGS$/);
    expect(line).toContain("plain '\\x1b[31mred'");
    expect(line.indexOf("marked")).toBe(heading.indexOf("COMM"));
    expect(line.indexOf(marked)).toBe(heading.indexOf("FILENAME"));
    expect(stderr).toMatch(/^\d+ seen \(1 shown\), 0 lost\n$/);
  });

  const hasScript = Bun.which("script") !== null;
  (hasScript ? bpfTest : test.skip)(
    "colours its heading on a terminal (needs script(1))",
    async () => {
      const command = `${process.execPath} ${script} --duration 0.5`;
      const { stdout } = await run(["script", "-qec", command, "/dev/null"], {
        env: { NO_COLOR: "" },
      });
      expect(stdout).toContain("\u001b[1mTIME");
      const plain = await run(["script", "-qec", command, "/dev/null"], { env: { NO_COLOR: "1" } });
      expect(plain.stdout).not.toContain("\u001b[1m");
    },
  );

  bpfTest("ends by itself after --duration", async () => {
    const { exitCode, stderr } = await runBun([script, "--json", "--duration", "0.3"]);
    expect(exitCode).toBe(0);
    expect(stderr).toMatch(/^\d+ seen, 0 lost\n$/);
  });

  bpfTest("ends quietly when its reader goes away", async () => {
    const command = `${process.execPath} ${script} --duration 20 | head -1`;
    const bash = run(["bash", "-c", `${command}; echo \${PIPESTATUS[0]}`]);
    const timer = setInterval(() => Bun.spawnSync([marked]), 50);
    const { stdout, stderr } = await bash;
    clearInterval(timer);
    expect(stdout).toMatch(/ARGS\n0\n$/);
    expect(stderr).toMatch(/^\d+ seen, 0 lost\n$/);
  });

  bpfTest(
    "counts in the kernel what it lost",
    async () => {
      const snoop = await start("--json", "--name", "^marked$");
      process.kill(snoop.pid, "SIGSTOP");
      const total = 3600;
      const loop = `i=0; while [ $i -lt ${total} ]; do ${marked} flood; i=$((i+1)); done`;
      expect(Bun.spawnSync(["sh", "-c", loop]).exitCode).toBe(0);
      process.kill(snoop.pid, "SIGCONT");
      const { stdout, stderr } = await snoop.finish("SIGINT");
      const flood = records(stdout).filter(({ args }) => args[1] === "flood").length;
      const [, seen, lost] = /^(\d+) seen .*, (\d+) lost\n$/.exec(stderr) ?? [];
      expect(Number(lost)).toBeGreaterThan(0);
      // Besides the flood there are the shell, what the start tried, and what else the machine does.
      expect(flood + Number(lost)).toBeGreaterThanOrEqual(total);
      expect(Number(seen)).toBeGreaterThanOrEqual(flood);
    },
    60_000,
  );

  bpfTest(
    "costs nothing while no program starts",
    async () => {
      const idle = Bun.spawn([process.execPath, "-e", "setInterval(() => {}, 2 ** 30)"]);
      const snoop = await start();
      try {
        // Both have warmed up: what follows is what waiting costs.
        await Bun.sleep(1000);
        const before = { idle: costOf(idle.pid), snoop: costOf(snoop.pid) };
        await Bun.sleep(3000);
        const after = { idle: costOf(idle.pid), snoop: costOf(snoop.pid) };
        const switches = after.snoop.switches - before.snoop.switches;
        const idleSwitches = after.idle.switches - before.idle.switches;
        const { stdout } = await snoop.finish("SIGINT");
        const seen = stdout.split("\n").length - 2;
        // Bun collects garbage by a timer of a second, which takes a few switches when there is some; a timer of ours, at
        // five times a second or more, would stand out.
        expect(switches).toBeLessThanOrEqual(idleSwitches + 15 + 10 * seen);
        // Half a percent of three seconds; the kernel counts in hundredths of a second.
        expect(after.snoop.ticks - before.snoop.ticks).toBeLessThanOrEqual(1 + seen);
      } finally {
        idle.kill();
      }
    },
    30_000,
  );

  (Bun.which("strace") === null ? test.skip : bpfTest)(
    "makes no system call of its own while no program starts (needs strace)",
    async () => {
      const snoop = await start();
      await Bun.sleep(500);
      const trace = join(folder, "trace");
      const count = ["strace", "-f", "-c", "-o", trace, "-p", `${snoop.pid}`];
      const strace = Bun.spawn(count, { stdout: "ignore", stderr: "ignore" });
      await Bun.sleep(3000);
      strace.kill("SIGINT");
      await strace.exited;
      const { stdout } = await snoop.finish("SIGINT");
      const seen = stdout.split("\n").length - 2;
      const calls = (name: string): number => {
        const row = new RegExp(`^.* (\\d+) +(?:\\d+ +)?${name}$`, "m");
        return Number(row.exec(readFileSync(trace, "utf8"))?.[1] ?? 0);
      };
      // At least this one is seen, or else nothing was counted at all.
      expect(calls("epoll_pwait2") + calls("epoll_wait") + calls("epoll_pwait")).toBeGreaterThan(0);
      for (const name of ["bpf", "io_uring_enter", "recvfrom", "io_submit", "io_getevents"]) {
        expect(calls(name), name).toBeLessThanOrEqual(2 * seen);
      }
    },
    30_000,
  );

  test("explains itself", async () => {
    const { stdout, exitCode } = await runBun([script, "--help"]);
    expect(exitCode).toBe(0);
    expect(stdout).toContain("usage: bun execsnoop.ts [options]");
  });

  test.each([
    [["--nmae", "x"], "nmae"],
    [["--name", "("], "regular expression"],
    [["--duration", "soon"], "--duration: expected seconds"],
    [["--duration", "-1"], "--duration"],
    [["extra"], "extra"],
  ])("refuses %j with a line that says why", async (args, reason) => {
    const { stderr, stdout, exitCode } = await runBun([script, ...args]);
    expect(exitCode).toBe(2);
    expect(stdout).toBe("");
    expect(stderr).toContain(reason);
    expect(stderr.trimEnd().split("\n")).toHaveLength(1);
  });

  const isRoot = process.getuid?.() === 0;
  (isRoot && Bun.which("setpriv") !== null ? test : test.skip)(
    "says what privilege is missing, in one line (needs root and setpriv(1))",
    async () => {
      const drop = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"];
      const { stderr, stdout, exitCode } = await run([...drop, process.execPath, script]);
      expect(exitCode).toBe(1);
      expect(stdout).toBe("");
      expect(stderr).toMatch(
        /^execsnoop: cannot create .*EPERM.* lacks CAP_BPF: run as root .*\n$/,
      );
    },
  );
});

/** What a process has used: processor time in ticks, and how often it went to sleep. */
function costOf(pid: number): { ticks: number; switches: number } {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]?.split(" ") ?? [];
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  return {
    ticks: Number(fields[11]) + Number(fields[12]),
    switches: Number(/^voluntary_ctxt_switches:\s*(\d+)$/m.exec(status)?.[1]),
  };
}
