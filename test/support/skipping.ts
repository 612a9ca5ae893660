import { test } from "bun:test";

/** A test that is not run, for a reason that its name then has: who reads results of several machines wants to know. */
export function skipping(reason: string): typeof test {
  return ((name: string, ...rest: [() => void]) =>
    test.skip(`${name} (skipped: ${reason})`, ...rest)) as typeof test;
}

/** A test that is run unless there is a reason not to, which its name then has. */
export function testUnless(obstacle: string | undefined): typeof test {
  return obstacle === undefined ? test : skipping(obstacle);
}

/** Whether this is a machine that the tests booted to try another kernel: it has little but that, Bun and a shell. */
export const isGuest: boolean = process.env["BUN_BPF_GUEST"] !== undefined;

/** A test of what is no matter of kernels, and needs tools that such machines have not: it is run on others alone. */
export const hostTest: typeof test = testUnless(
  isGuest
    ? "it depends on no kernel, and needs tools that are not in emulated machines"
    : undefined,
);
