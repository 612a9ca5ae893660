import { test, type Test } from "bun:test";

/** The part of Bun's `test` that functions which may skip a test have. `test.skipIf()` cannot show a reason. */
export interface DefineTest extends Pick<typeof test, "each"> {
  (...definition: Parameters<typeof test>): void;
}

/**
 * Returns a function that skips tests, and adds the reason to their names, so that the results of several machines can be
 * compared.
 */
export function skipping(reason: string): DefineTest {
  const skip =
    <Row extends readonly unknown[]>(define: Test<Row>) =>
    (...[name, ...rest]: Parameters<Test<Row>>) =>
      define(`${name} (skipped: ${reason})`, ...rest);
  const each = (table: readonly unknown[]) => skip(test.skip.each(table));
  // The overloads of each() only differ in the arguments of the body, which is not called here.
  return Object.assign(skip(test.skip), { each: each as typeof test.each });
}

/** Returns `test`, or, if there is an obstacle, a function that skips tests and adds the obstacle to their names. */
export function testUnless(obstacle: string | undefined): DefineTest {
  return obstacle === undefined ? test : skipping(obstacle);
}

/** True in a virtual machine with another kernel (see test/kernels). The machine has only the kernel, Bun and a shell. */
export const isGuest: boolean = process.env["BUN_BPF_GUEST"] !== undefined;

/** The reason to skip tests that do not depend on the kernel, or `undefined`: guests are slow and lack tools. */
export const hostObstacle: string | undefined = isGuest
  ? "it does not depend on the kernel"
  : undefined;

/** Defines a test that does not depend on the kernel. */
export const hostTest: DefineTest = testUnless(hostObstacle);
