import { existsSync } from "node:fs";
import { type DefineTest, testUnless } from "../support/skipping.ts";

/** Path of the running kernel's BTF. */
export const vmlinux = "/sys/kernel/btf/vmlinux";

/** Reason to skip tests of the running kernel's BTF, if it has none. */
export const kernelTypesObstacle: string | undefined = existsSync(vmlinux)
  ? undefined
  : `the kernel has no ${vmlinux}`;

/** Defines a test of the running kernel's BTF. */
export const kernelTypesTest: DefineTest = testUnless(kernelTypesObstacle);
