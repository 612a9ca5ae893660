import { afterAll, beforeAll, expect, test } from "bun:test";
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type GuestEnd, lastLine, readLog, runMachine } from "./machine.ts";
import { architectures } from "./targets.ts";

let folder = "";
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "machine-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const file = (name: string) => join(folder, name);

/** Runs a shell script instead of an emulator. $console and $output are the paths of the logs. */
async function ends(
  script: string,
  { timeLimit = 60_000, onPoll = () => {} } = {},
): Promise<GuestEnd> {
  const emulator = file("emulator");
  const paths = `console=${file("console")} output=${file("output")}`;
  writeFileSync(emulator, `#!/bin/sh\n${paths}\n: >$console; : >$output\n${script}\n`);
  chmodSync(emulator, 0o755);
  const boot = {
    architecture: { ...architectures.x64, emulator },
    ...{ image: "kernel", initialFiles: "initial.cpio", memory: 512, timeLimit },
    ...{ console: file("console"), output: file("output"), onPoll },
  };
  return runMachine(boot, new AbortController().signal);
}

test("a machine that runs its script and powers off ends with off", async () => {
  expect(await ends(`echo "${lastLine}" >$output`)).toBe("off");
});

test("a panic, a lack of memory and a timeout are distinguished", async () => {
  expect(await ends('echo "Kernel panic - not syncing: x" >$console')).toBe("panicked");
  expect(
    await ends(
      `echo "Out of memory: Killed process 9 (bun)" >$console; echo "${lastLine}" >$output`,
    ),
  ).toBe("out of memory");
  expect(await ends("echo x >$output")).toBe("panicked");
  expect(await ends("exec sleep 30", { timeLimit: 100 })).toBe("time limit");
});

test("an emulator that fails or is killed is reported with its message", async () => {
  expect(await ends("echo 'no such machine' >&2; exit 1")).toBe("emulator failed");
  expect(readFileSync(file("console"), "utf8")).toContain("ended by status 1: no such machine");
  expect(await ends("kill -9 $$")).toBe("emulator failed");
  expect(readFileSync(file("console"), "utf8")).toContain("ended by SIGKILL");
});

test("a machine that ends before it has created its logs ends as panicked, or by the time limit", async () => {
  expect(await ends("rm $console $output")).toBe("panicked");
  expect(await ends("rm $console $output; exec sleep 30", { timeLimit: 100 })).toBe("time limit");
  expect(readLog(file("console"))).toBe("");
});

test("an error of the observer ends the machine", async () => {
  // The script renames the file after writing, so that it has the complete number when it exists.
  const script = `echo $$ >${file("new")}; mv ${file("new")} ${file("pid")}; exec sleep 30`;
  const ended = ends(script, {
    onPoll: () => {
      if (existsSync(file("pid"))) throw new Error("cannot poll");
    },
  });
  expect(await ended.catch(String)).toBe("Error: cannot poll");
  const pid = Number(readFileSync(file("pid"), "utf8"));
  await until(() => !isRunning(pid));
});

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await Bun.sleep(10);
}

function isRunning(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}
