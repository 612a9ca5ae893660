import { describe, expect } from "bun:test";
import { readFileSync, readlinkSync } from "node:fs";
import { inNewNetworkNamespace } from "../../src/ffi/namespace.ts";
import { bpfTest } from "../support/privilege.ts";
import { runBun } from "../support/run.ts";

const current = () => readlinkSync("/proc/thread-self/ns/net");

describe("inNewNetworkNamespace", () => {
  bpfTest("calls a function in a new namespace, and returns from it", () => {
    const before = current();
    const { inside, interfaces } = inNewNetworkNamespace(() => ({
      inside: current(),
      interfaces: readFileSync("/proc/thread-self/net/dev", "utf8").match(/\w+(?=:)/g),
    }));
    expect(inside).toMatch(/^net:\[\d+\]$/);
    expect(inside).not.toBe(before);
    expect(interfaces).toContain("lo");
    expect(current()).toBe(before);
  });

  bpfTest("returns to the previous namespace when the function throws", () => {
    const before = current();
    const fail = () => {
      throw new Error("in it");
    };
    expect(() => inNewNetworkNamespace(fail)).toThrow("in it");
    expect(current()).toBe(before);
  });

  bpfTest("does not enter a namespace if it could not return", async () => {
    const { stdout, exitCode } = await runBun([
      "--preload",
      "./test/support/drop_capabilities.ts",
      "test/ffi/children/network_namespace.ts",
    ]);
    expect({ stdout, exitCode }).toEqual({ stdout: "EPERM setns\n", exitCode: 0 });
  });
});
