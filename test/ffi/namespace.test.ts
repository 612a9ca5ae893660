import { describe, expect, spyOn } from "bun:test";
import fs, { readFileSync, readlinkSync, statSync } from "node:fs";
import {
  inNetworkNamespace,
  inNewNetworkNamespace,
  openNetworkNamespace,
} from "../../src/ffi/namespace.ts";
import { otherLibc } from "../../src/ffi/libc_others.ts";
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

describe("inNetworkNamespace", () => {
  bpfTest("calls a function at once in the namespace of this thread", () => {
    using namespace = openNetworkNamespace();
    const before = current();
    expect(inNetworkNamespace(namespace.fd, current)).toBe(before);
  });

  bpfTest("compares more than inode numbers with the namespace of this thread", () => {
    const own = statSync("/proc/thread-self/ns/net");
    using namespace = openNetworkNamespace();
    // No file system lets a test choose an inode number.
    const other = { ...own, dev: own.dev + 1 } as fs.Stats;
    using _stat = spyOn(fs, "fstatSync").mockReturnValue(other);
    using setns = spyOn(otherLibc, "setns");
    expect(inNetworkNamespace(namespace.fd, current)).toBe(current());
    // The namespace is entered by setns(2), which checks the file.
    expect(setns.mock.calls.map(([fd]) => fd)).toContain(namespace.fd);
  });
});
