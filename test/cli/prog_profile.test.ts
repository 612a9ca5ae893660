/** Tests of `bun-bpf prog profile`. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout } from "bun:test";
import { asm, Program } from "../../src/index.ts";
import { commandObstacle } from "../support/commands.ts";
import { bpfObstacle, bpfTest } from "../support/privilege.ts";
import { testUnless } from "../support/skipping.ts";
import { cli, cliJson, commandTimeout, mainFile } from "./run_cli.ts";

setDefaultTimeout(commandTimeout);

/** The JSON output of the command. */
interface Report {
  readonly seconds: number;
  readonly programs: readonly {
    readonly id: number;
    readonly type: string;
    readonly name: string;
    readonly runs: number;
    readonly runTime: number;
    readonly recursionMisses?: number;
    readonly cpu: number;
  }[];
}

let program: Program;

beforeAll(() => {
  if (bpfObstacle !== undefined) return;
  program = new Program({
    section: "socket",
    license: "GPL",
    name: "cli_profiled",
    code: [asm.mov(asm.r0, 0), asm.exit()],
  });
});

afterAll(() => program?.[Symbol.dispose]());

/** Runs the program until a command has ended, and returns the number of runs. */
async function runDuring(command: Promise<unknown>): Promise<number> {
  let hasEnded = false;
  const end = (): void => {
    hasEnded = true;
  };
  command.then(end, end);
  let runs = 0;
  while (!hasEnded) {
    for (let i = 0; i < 10; i++, runs++) program.testRun({ data: new Uint8Array(14) });
    await Bun.sleep(1);
  }
  return runs;
}

/** Starts the command, and returns the process. */
function start(...args: readonly string[]) {
  return Bun.spawn([process.execPath, mainFile, "prog", "profile", ...args], {
    stdout: "pipe",
    stderr: "pipe",
  });
}

bpfTest("counts and times the runs of a program", async () => {
  const { id, type, name } = program;
  const command = cliJson<Report>(["prog", "profile", id, "--duration", "0.5"]);
  const runs = await runDuring(command);
  const { seconds, programs } = await command;
  expect(seconds).toBeGreaterThanOrEqual(0.5);
  expect(programs).toMatchObject([{ id, type, name }]);
  const [profiled] = programs;
  expect(profiled?.runs).toBeGreaterThan(0);
  expect(profiled?.runs).toBeLessThanOrEqual(runs);
  expect(profiled?.runTime).toBeGreaterThan(0);
  expect(profiled?.cpu).toBeCloseTo((profiled?.runTime ?? 0) / (seconds * 1e9), 12);
});

bpfTest("prints those programs that ran, the most expensive first", async () => {
  using idle = new Program({
    section: "socket",
    license: "GPL",
    code: [asm.mov(asm.r0, 0), asm.exit()],
  });
  const command = cliJson<Report>(["prog", "profile", "--duration", "0.5"]);
  await runDuring(command);
  const { programs } = await command;
  expect(programs.map(({ id }) => id)).toContain(program.id);
  expect(programs.map(({ id }) => id)).not.toContain(idle.id);
  const times = programs.map(({ runTime }) => runTime);
  expect(times).toEqual(times.toSorted((one, other) => other - one));
});

bpfTest("prints a document per interval, whose runs add up", async () => {
  const child = start(`${program.id}`, "--duration", "0.6", "--interval", "0.2", "--json");
  const runs = await runDuring(child.exited);
  const lines = (await child.stdout.text()).trimEnd().split("\n");
  const reports = lines.map((line) => JSON.parse(line) as Report);
  expect(reports.length).toBeGreaterThanOrEqual(2);
  const counted = reports.map(({ programs }) => programs[0]?.runs ?? 0);
  const sum = counted.reduce((one, other) => one + other);
  expect(sum).toBeGreaterThan(0);
  expect(sum).toBeLessThanOrEqual(runs);
});

bpfTest("measures the time between two intervals, too", async () => {
  const seconds = 0.5;
  // Without ids, it takes longer to read the programs.
  const child = start("--duration", `${seconds}`, "--interval", "0.01", "--json");
  const lines = (await child.stdout.text()).trimEnd().split("\n");
  const sum = lines.reduce((total, line) => total + (JSON.parse(line) as Report).seconds, 0);
  // A timer of JavaScript can be early by less than a millisecond.
  expect(sum).toBeGreaterThanOrEqual(seconds - 0.001);
});

describe("prints a table", () => {
  const heading = "ID TYPE NAME RUNS RATE EACH CPU".split(" ");

  bpfTest("when a signal ends it", async () => {
    for (const signal of ["SIGINT", "SIGTERM"] as const) {
      const child = start(`${program.id}`);
      // The kernel counts runs as soon as the command has enabled statistics.
      const before = program.info().runCount;
      while (program.info().runCount === before) {
        program.testRun({ data: new Uint8Array(14) });
        await Bun.sleep(1);
      }
      await Bun.sleep(50);
      program.testRun({ data: new Uint8Array(14), repeat: 100 });
      child.kill(signal);
      expect(await child.exited).toBe(0);
      const [first = "", second = "", ...more] = (await child.stdout.text()).split("\n");
      expect(first.trim().split(/\s+/)).toEqual(heading);
      expect(second).toMatch(
        new RegExp(`^ *${program.id}  socket_filter  cli_profiled +\\d+ +\\d+/s .* [\\d.]+ %$`),
      );
      expect(more).toEqual([""]);
      expect(await child.stderr.text()).toBe("");
    }
  });

  bpfTest("per interval, separated by empty lines", async () => {
    const { stdout, exitCode } = await cli([
      ...["prog", "profile", program.id, "--duration", "0.3", "--interval", "0.1"],
    ]);
    expect(exitCode).toBe(0);
    const tables = stdout.split("\n\n");
    expect(tables.length).toBeGreaterThanOrEqual(2);
    for (const table of tables) {
      expect(table.split("\n", 1)[0]?.trim().split(/\s+/)).toEqual(heading);
    }
  });

  testUnless(bpfObstacle ?? commandObstacle("script"))(
    "on a terminal in the alternate screen, and at the end on the normal one",
    async () => {
      const args = `prog profile ${program.id} --duration 0.5 --interval 0.2`;
      const line = `env -u CI NO_COLOR=1 TERM=xterm "${process.execPath}" "${mainFile}" ${args}`;
      const child = Bun.spawn(["script", "-qec", line, "/dev/null"], {
        stdin: "ignore",
        stdout: "pipe",
      });
      const output = await child.stdout.text();
      expect(await child.exited).toBe(0);
      const [before = "", inside = "", ...none] = output.split("\u001b[?1049h");
      expect([before, none]).toEqual(["", []]);
      const [screens = "", last = ""] = inside.split("\u001b[?1049l");
      // One text for the start, and one for each interval.
      expect(screens.split("\u001b[H").length).toBeGreaterThanOrEqual(3);
      expect(last).not.toContain("\u001b");
      expect(last.trim().split(/\s+/).slice(0, heading.length)).toEqual(heading);
    },
  );
});

bpfTest("errors name the mistake", async () => {
  for (const [args, status, message] of [
    [["4294967295"], 1, "there is no program with the id 4294967295"],
    [["cli_profild"], 1, 'did you mean "cli_profiled"?'],
    [["--duration", "-1"], 2, "Expected a number of seconds from 0.01 to 2000000."],
    [["--interval", "0.001"], 2, "Expected a number of seconds from 0.01 to 2000000."],
    [["--duration", "1e3"], 2, "Expected a number of seconds from 0.01 to 2000000."],
  ] as const) {
    const { stdout, stderr, exitCode } = await cli(["prog", "profile", ...args]);
    expect({ args, stdout, exitCode }).toEqual({ args, stdout: "", exitCode: status });
    expect(stderr).toContain(message);
    expect(stderr.trimEnd().split("\n")).toHaveLength(1);
  }
});
