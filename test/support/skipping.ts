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
