import { expect, test } from "bun:test";
import { join } from "node:path";
import { run } from "../support/run.ts";

const main = join(import.meta.dir, "main.ts");

test("wrong arguments end with status 2 and a line that names the mistake", async () => {
  for (const [argument, complaint] of [
    ["--bogus", "--bogus"],
    ["--arch=vax", "--arch: expected x64 or arm64"],
    ["--jobs=0", "--jobs: expected a number"],
  ] as const) {
    const { exitCode, stderr } = await run([process.execPath, main, argument]);
    expect({ exitCode, lines: stderr.trim().split("\n").length }).toEqual({
      exitCode: 2,
      lines: 1,
    });
    expect(stderr).toContain(complaint);
  }
});
