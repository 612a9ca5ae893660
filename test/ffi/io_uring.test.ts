import { expect, test } from "bun:test";
import { isKernelSince } from "../../src/ffi/kernel.ts";
import { errnoNumber } from "../../src/ffi/error.ts";
import { runBun } from "../support/run.ts";

const forbidden = `${import.meta.dir}/../loop/children/forbidden.ts`;

test.each([
  ["EPERM", ["seccomp filter", "sysctl kernel.io_uring_disabled", "set the sysctl to 0"]],
  ["ENOSYS", ["older than Linux 5.1", "CONFIG_IO_URING", "seccomp profile"]],
  [
    "ENOMEM",
    isKernelSince("5.12")
      ? ["no memory left", "memory.max"]
      : ["RLIMIT_MEMLOCK", "ulimit -l unlimited", "CAP_IPC_LOCK"],
  ],
] as const)(
  "the error for %s from io_uring_setup names causes and remedies",
  async (code, parts) => {
    const env = { BUN_BPF_LOOP: "", FORBIDDEN_ERRNO: `${errnoNumber(code)}` };
    const { stdout, stderr, exitCode } = await runBun([forbidden, "io_uring_setup"], { env });
    expect({ stderr, exitCode }).toEqual({ stderr: "", exitCode: 0 });
    const refusal = stdout.split("\n").find((line) => line.includes("io_uring_setup")) ?? "";
    expect(refusal).toStartWith(`not by cannot set up io_uring: io_uring_setup: ${code}`);
    for (const part of parts) expect(refusal).toContain(part);
  },
);

test("the error for any other errno from io_uring_setup has no hint", async () => {
  const env = { BUN_BPF_LOOP: "", FORBIDDEN_ERRNO: `${errnoNumber("EIO")}` };
  const { stdout } = await runBun([forbidden, "io_uring_setup"], { env });
  expect(stdout).toMatch(/^not by cannot set up io_uring: io_uring_setup: EIO \([^()]*\)$/m);
});
