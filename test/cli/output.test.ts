/** Tests of output to closed pipes, slow readers and full disks, of signals, and of colours. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout } from "bun:test";
import { closeSync, openSync, readFileSync } from "node:fs";
import { HashMap, t } from "../../src/index.ts";
import { commandObstacle } from "../support/commands.ts";
import { repetitions } from "../support/effort.ts";
import { bpfObstacle, bpfTest } from "../support/privilege.ts";
import { run } from "../support/run.ts";
import { testUnless } from "../support/skipping.ts";
import { cli, commandTimeout, mainFile } from "./run_cli.ts";

setDefaultTimeout(commandTimeout);

const entries = repetitions(200_000, 50_000);
let map: HashMap<t.Type<number>, t.Type<bigint>>;

beforeAll(() => {
  if (bpfObstacle !== undefined) return;
  map = new HashMap({ key: t.u32, value: t.u64, maxEntries: entries, name: "cli_large" });
  for (let start = 0; start < entries; start += 10_000) {
    map.setMany(Array.from({ length: 10_000 }, (_, index) => [start + index, 7n] as const));
  }
});
afterAll(() => map?.[Symbol.dispose]());

/** Runs a shell command line, in which `bun_bpf` runs the command. */
function shell(line: string): ReturnType<typeof run> {
  return run(["sh", "-c", `bun_bpf() { "${process.execPath}" "${mainFile}" "$@"; }; ${line}`]);
}

/** Returns the peak memory of a process in bytes. */
function residentPeak(pid: number): number {
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  return Number(/^VmHWM:\s*(\d+) kB$/m.exec(status)?.[1]) * 1024;
}

describe("a reader that closes the pipe", () => {
  bpfTest.each([["map dump cli_large"], ["map dump cli_large --json"], ["map list"], ["--help"]])(
    "ends `%s` without an error",
    async (command) => {
      const line = `{ bun_bpf ${command}; echo "status $?" >&2; } | head -n 1`;
      const { stdout, stderr } = await shell(line);
      expect(stderr).toBe("status 0\n");
      expect(stdout.split("\n")).toHaveLength(2);
    },
  );

  bpfTest("ends the command also if it was closed from the start", async () => {
    const { stderr } = await shell('{ bun_bpf map dump cli_large; echo "status $?" >&2; } | true');
    expect(stderr).toBe("status 0\n");
  });
});

bpfTest("a slow reader gets all output, while the command waits with little memory", async () => {
  const child = Bun.spawn([process.execPath, mainFile, "map", "dump", `${map.id}`], {
    stdout: "pipe",
    stderr: "pipe",
  });
  let lines = 0;
  let largest = 0;
  for await (const chunk of child.stdout) {
    for (const byte of chunk) if (byte === 0x0a) lines++;
    // Read repeatedly; the last value is from the middle of the output.
    if (lines < entries / 2) largest = residentPeak(child.pid);
  }
  await child.exited;
  expect([lines, await child.stderr.text(), child.exitCode]).toEqual([entries, "", 0]);
  // The limit includes the engine. All entries as JavaScript values would take several times as much.
  expect(largest).toBeGreaterThan(0);
  expect(largest).toBeLessThan(200 * 1024 * 1024);
});

bpfTest("a full non-blocking pipe is waited for", async () => {
  // The reader makes the pipe non-blocking for both ends, as some programs do.
  const script = `
    const { spawn } = require("node:child_process");
    const child = spawn(process.execPath, [${JSON.stringify(mainFile)}, "map", "dump", "${map.id}"], { stdio: ["ignore", "pipe", "inherit"] });
    let lines = 0;
    child.stdout.on("data", (chunk) => { for (const byte of chunk) if (byte === 10) lines++; });
    child.on("close", (code) => console.log(lines, code));`;
  const { stdout } = await run([process.execPath, "-e", script]);
  expect(stdout).toBe(`${entries} 0\n`);
});

bpfTest("a full disk is an error in a line", async () => {
  const full = openSync("/dev/full", "w");
  try {
    const child = Bun.spawn([process.execPath, mainFile, "map", "list"], {
      stdout: full,
      stderr: "pipe",
    });
    await child.exited;
    expect(await child.stderr.text()).toMatch(/^bun-bpf: .*ENOSPC.*\n$/);
    expect(child.exitCode).toBe(1);
  } finally {
    closeSync(full);
  }
});

bpfTest("a signal ends the command without output on standard error", async () => {
  const child = Bun.spawn([process.execPath, mainFile, "map", "dump", `${map.id}`], {
    stdout: "pipe",
    stderr: "pipe",
  });
  // The command is printing, and waits for the reader.
  await child.stdout.getReader().read();
  child.kill("SIGINT");
  await child.exited;
  expect(child.signalCode).toBe("SIGINT");
  expect(await child.stderr.text()).toBe("");
});

describe("colours", () => {
  bpfTest("are not written to a pipe or a file", async () => {
    expect((await cli(["map", "list"])).stdout).not.toContain("\u001b");
    expect((await cli(["map", "show", map.id])).stdout).not.toContain("\u001b");
  });

  testUnless(bpfObstacle ?? commandObstacle("script"))(
    "are written to a terminal, unless NO_COLOR is set",
    async () => {
      const onTerminal = (setting: string) =>
        run([
          ...["script", "-qec"],
          `env -u NO_COLOR -u FORCE_COLOR -u CI TERM=xterm ${setting} "${process.execPath}" "${mainFile}" map list`,
          "/dev/null",
        ]);
      expect((await onTerminal("")).stdout).toContain("\u001b[1m");
      expect((await onTerminal("NO_COLOR=1")).stdout).not.toContain("\u001b[");
    },
  );
});

testUnless(bpfObstacle ?? commandObstacle("script") ?? commandObstacle("stty"))(
  "a heading is cut to the width of the terminal",
  async () => {
    const command = `stty cols 30; exec env -u NO_COLOR -u FORCE_COLOR -u CI TERM=xterm "${process.execPath}" "${mainFile}" map list`;
    const { stdout } = await run(["script", "-qec", command, "/dev/null"]);
    const [heading = ""] = Bun.stripANSI(stdout).split("\r\n");
    expect(heading).toMatch(/^ *ID  TYPE /);
    expect(heading.length).toBe(30);
  },
);
