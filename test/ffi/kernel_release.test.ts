import { expect, test } from "bun:test";
import { release } from "node:os";
import { isKernelSince, isVersionSince, kernelRelease } from "../../src/ffi/kernel.ts";

test("releases of kernels are compared by their numbers", () => {
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

test("the running kernel's release is the system's", () => {
  expect(kernelRelease()).toBe(release());
  expect(isKernelSince("3.19")).toBe(true);
  expect(isKernelSince("99.0")).toBe(false);
});
