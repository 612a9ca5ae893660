import { existsSync } from "node:fs";
import { type DefineTest, testUnless } from "../support/skipping.ts";

/** The running kernel's types. */
export const vmlinux = "/sys/kernel/btf/vmlinux";

/** Why the running kernel's types cannot be read. */
export const kernelTypesObstacle: string | undefined = existsSync(vmlinux)
  ? undefined
  : `the kernel has no ${vmlinux}`;

/** A test of the running kernel's types. */
export const kernelTypesTest: DefineTest = testUnless(kernelTypesObstacle);
