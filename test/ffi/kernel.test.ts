import { describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { release, tmpdir } from "node:os";
import { join } from "node:path";
import {
  isKernelSince,
  isVersionSince,
  kernelRelease,
  parseCpuList,
} from "../../src/ffi/kernel.ts";
import { possibleCpus } from "../../src/index.ts";
import { mountObstacle, runBunWithout } from "../support/hidden_folder.ts";
import { bpfObstacle } from "../support/privilege.ts";
import { packageRoot, run } from "../support/run.ts";
import { testUnless } from "../support/skipping.ts";

test("isVersionSince compares the numbers of kernel releases", () => {
  const since = [
    "5.15",
    "5.15.0-rc1",
    "5.15.12-amd64",
    "5.16",
    "6.1.0",
    "10.0",
    "7.2.13+deb14-cloud",
  ];
  const before = ["4.19.0-27-amd64", "5.4", "5.14.21", "5.9", "3.19"];
  expect(since.filter((each) => !isVersionSince(each, "5.15"))).toEqual([]);
  expect(before.filter((each) => isVersionSince(each, "5.15"))).toEqual([]);
});

test("kernelRelease is the release of the running kernel", () => {
  expect(kernelRelease()).toBe(release());
  expect(isKernelSince("3.19")).toBe(true);
  expect(isKernelSince("99.0")).toBe(false);
});

const sysfs = "/sys/devices/system/cpu/possible";

describe("a list of CPUs in the kernel's format", () => {
  const lists: readonly [text: string, ids: readonly number[]][] = [
    ["0", [0]],
    ["0\n", [0]],
    ["0-3\n", [0, 1, 2, 3]],
    ["0,2-3,8\n", [0, 2, 3, 8]],
    ["1,3,5", [1, 3, 5]],
    ["4-4", [4]],
    ["0-1,126-129", [0, 1, 126, 127, 128, 129]],
    ["0-8191", Array.from({ length: 8192 }, (_, id) => id)],
  ];
  test.each(lists)("is parsed: %j", (text, ids) => {
    expect(parseCpuList(text)).toEqual([...ids]);
  });

  test.each(["", "\n", "a", "0-", "-1", "0,,2", "0 2", "0-3,", "0x1", "1.5"])(
    "is rejected: %j",
    (text) => {
      expect(() => parseCpuList(text)).toThrow(
        `${sysfs}: expected a list of CPUs, got ${JSON.stringify(text)}`,
      );
    },
  );
});

describe("the possible CPUs", () => {
  test("are those of the kernel, ascending, in a frozen array", () => {
    const cpus = possibleCpus();
    expect([...cpus]).toEqual(parseCpuList(readFileSync(sysfs, "utf8")));
    expect([...cpus]).toEqual([...new Set(cpus)].sort((a, b) => a - b));
    expect(cpus.length).toBeGreaterThan(0);
    expect(possibleCpus()).toBe(cpus);
    expect(() => (cpus as number[]).push(99)).toThrow(TypeError);
  });
});

/** Runs a child in a mount namespace in which /sys/devices/system/cpu/possible has this text. */
function runWithPossible(text: string, script: readonly string[]) {
  const folder = mkdtempSync(join(tmpdir(), "cpus-"));
  const file = join(folder, "possible");
  writeFileSync(file, text);
  const command = 'mount --bind "$0" "$1" && shift && exec "$@"';
  return run(
    ["unshare", "--mount", "sh", "-c", command, file, sysfs, process.execPath, ...script],
    { timeout: 20_000 },
  ).finally(() => rmSync(folder, { recursive: true }));
}

const mountTest = testUnless(mountObstacle);

/** The simulated list has four CPUs: with more possible ones, the kernel would write past the end of buffers. */
const cpusObstacle =
  possibleCpus().length > 4 ? "this machine may have more than four CPUs" : undefined;

describe("another list of possible CPUs", () => {
  testUnless(mountObstacle ?? bpfObstacle ?? cpusObstacle)(
    "determines the values of per-CPU maps, also if ids are missing",
    async () => {
      const child = join(packageRoot, "test/maps/children/sparse_cpus.ts");
      const { stdout, stderr } = await runWithPossible("0,2-3,8\n", [child]);
      expect(stderr).toBe("");
      const possible = "one of the possible CPUs (0, 2, 3, 8)";
      const all = [10, 20, 30, 40];
      expect(JSON.parse(stdout)).toEqual({
        cpus: [0, 2, 3, 8],
        values: all,
        ofCpu0: all[0],
        folded: [0, 2, 3, 8],
        refusals: [1, 4, -1, 2.5].map((cpu) => `RangeError: cpu: expected ${possible}, got ${cpu}`),
        wrongLength: expect.stringContaining(
          "expected an array of 4, a value for each possible CPU, got 2",
        ),
      });
    },
  );

  mountTest("is an error if it is not a list", async () => {
    const script = 'import("./src/index.ts").then(({ possibleCpus }) => possibleCpus())';
    const { exitCode, stderr } = await runWithPossible("none\n", ["-e", script]);
    expect(exitCode).not.toBe(0);
    expect(stderr).toContain(`${sysfs}: expected a list of CPUs, got "none\\n"`);
  });

  mountTest("is an error that says what to mount if the file is absent", async () => {
    const script = 'import("./src/index.ts").then(({ possibleCpus }) => possibleCpus())';
    const { exitCode, stderr } = await runBunWithout("/sys/devices/system/cpu", ["-e", script]);
    expect(exitCode).not.toBe(0);
    expect(stderr).toContain(`${sysfs} is not readable. Mount sysfs: `);
  });
});
