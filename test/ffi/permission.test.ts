import { describe, expect } from "bun:test";
import { hasCapability } from "../../src/ffi/capabilities.ts";
import { countsTowardsLimit, lockedMemoryLimit } from "../../src/ffi/permission.ts";
import { bpfObstacle, bpfTest } from "../support/privilege.ts";
import { run } from "../support/run.ts";
import { testUnless } from "../support/skipping.ts";

interface Outcome {
  readonly before: number;
  readonly after: string;
  readonly refusal: string;
}

/** Creates a large map in a process with these limits, in KiB. */
async function large(soft: number, hard: number, capabilities: "keep" | "drop"): Promise<Outcome> {
  const child = `ulimit -S -l ${soft} && ulimit -H -l ${hard} && exec "$0" test/ffi/children/locked_memory.ts ${capabilities}`;
  const { stdout, stderr, exitCode } = await run(["sh", "-c", child, process.execPath]);
  expect({ stderr, exitCode }).toEqual({ stderr: "", exitCode: 0 });
  return JSON.parse(stdout) as Outcome;
}

/** Defines tests for kernels where maps count towards the limit. */
const countingTest = testUnless(
  bpfObstacle ??
    (countsTowardsLimit() ? undefined : "since kernel 5.11 maps do not count towards the limit"),
);
const mayRaise = hasCapability("CAP_SYS_RESOURCE");

describe("the limit on locked memory", () => {
  bpfTest("is read in bytes", async () => {
    expect(lockedMemoryLimit().soft).toBeGreaterThan(0);
    expect((await large(64, 128, "drop")).before).toBe(64 * 1024);
  });

  testUnless(bpfObstacle ?? (countsTowardsLimit() ? "this kernel counts maps" : undefined))(
    "is not raised where maps do not count towards it",
    async () => {
      expect(await large(64, 128, "keep")).toEqual({
        before: 64 * 1024,
        after: `${64 * 1024}`,
        refusal: "",
      });
    },
  );

  countingTest("is raised for a map that would exceed it", async () => {
    const { after, refusal } = await large(64, 64 * 1024, "keep");
    expect([after, refusal]).toEqual([mayRaise ? "Infinity" : `${64 * 1024 * 1024}`, ""]);
  });

  countingTest("is raised to the hard limit without CAP_SYS_RESOURCE", async () => {
    const { after, refusal } = await large(64, 64 * 1024, "drop");
    expect([after, refusal]).toEqual([`${64 * 1024 * 1024}`, ""]);
  });

  countingTest("is named in the error, with the remedy, if it cannot be raised", async () => {
    const { after, refusal } = await large(64, 64, "drop");
    expect(after).toBe(`${64 * 1024}`);
    expect(refusal).toBe(
      "EPERM: Before Linux 5.11 maps and programs count towards the limit on locked memory, which is 65536 bytes here and could not be raised: run with `ulimit -l unlimited`, or give the process CAP_SYS_RESOURCE",
    );
  });
});
