import { test, type Test } from "bun:test";

/** As much of Bun's `test` as one that may be skipped has: `skipIf()` and the like know no reason. */
export interface DefineTest extends Pick<typeof test, "each"> {
  (...definition: Parameters<typeof test>): void;
}

/** A test that is not run, for a reason that its name then has: who reads results of several machines wants to know. */
export function skipping(reason: string): DefineTest {
  const skip =
    <Row extends readonly unknown[]>(define: Test<Row>) =>
    (...[name, ...rest]: Parameters<Test<Row>>) =>
      define(`${name} (skipped: ${reason})`, ...rest);
  const each = (table: readonly unknown[]) => skip(test.skip.each(table));
  // The overloads of each() are about what a body is called with: this one is not called.
  return Object.assign(skip(test.skip), { each: each as typeof test.each });
}

/** A test that is run unless there is a reason not to, which its name then has. */
export function testUnless(obstacle: string | undefined): DefineTest {
  return obstacle === undefined ? test : skipping(obstacle);
}

/** Whether this is a machine that the tests booted to try another kernel: it has little but that, Bun and a shell. */
export const isGuest: boolean = process.env["BUN_BPF_GUEST"] !== undefined;

/** Why what is no matter of kernels, and may take long or need tools that such machines have not, is tested on others alone. */
export const hostObstacle: string | undefined = isGuest ? "it depends on no kernel" : undefined;

/** A test of what is no matter of kernels. */
export const hostTest: DefineTest = testUnless(hostObstacle);
