import { afterAll, beforeAll, expect, test } from "bun:test";
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type GuestEnd, lastLine, runMachine } from "./machine.ts";
import { architectures } from "./targets.ts";

let folder = "";
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "machine-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const file = (name: string) => join(folder, name);

/** Runs a script instead of an emulator: it finds the paths of console and output in $console and $output. */
async function ends(script: string, timeLimit = 60_000): Promise<GuestEnd> {
  const emulator = file("emulator");
  const paths = `console=${file("console")} output=${file("output")}`;
  writeFileSync(emulator, `#!/bin/sh\n${paths}\n: >$console; : >$output\n${script}\n`);
  chmodSync(emulator, 0o755);
  const boot = {
    architecture: { ...architectures.x64, emulator },
    ...{ image: "kernel", initialFiles: "initial.cpio", memory: 512, timeLimit },
    ...{ console: file("console"), output: file("output"), onLook: () => {} },
  };
  return runMachine(boot, new AbortController().signal);
}

test("a machine that runs its script and switches itself off has ended well", async () => {
  expect(await ends(`echo "${lastLine}" >$output`)).toBe("off");
});

test("a panic, the end of memory and the end of time are told apart", async () => {
  expect(await ends('echo "Kernel panic - not syncing: x" >$console')).toBe("panicked");
  expect(
    await ends(
      `echo "Out of memory: Killed process 9 (bun)" >$console; echo "${lastLine}" >$output`,
    ),
  ).toBe("out of memory");
  expect(await ends("echo x >$output")).toBe("panicked");
  expect(await ends("exec sleep 30", 100)).toBe("time limit");
});

test("an emulator that fails, or is killed, has ended so, and says why", async () => {
  expect(await ends("echo 'no such machine' >&2; exit 1")).toBe("emulator failed");
  expect(readFileSync(file("console"), "utf8")).toContain("ended by status 1: no such machine");
  expect(await ends("kill -9 $$")).toBe("emulator failed");
  expect(readFileSync(file("console"), "utf8")).toContain("ended by SIGKILL");
});
