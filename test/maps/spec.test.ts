import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { checkPinPath } from "../../src/handle/kernel_object.ts";
import { mapType, mapTypeName } from "../../src/maps/map_types.ts";
import { bpfMapTypes } from "../../src/uapi/enumerations.ts";
import { runBun } from "../support/run.ts";
import { testUnless } from "../support/skipping.ts";
import { badConstructions, findWrongError } from "./bad_options.ts";

describe("options of maps", () => {
  for (const bad of badConstructions) {
    test(`are rejected: ${bad.what}`, () => {
      expect(findWrongError(bad)).toBeUndefined();
    });
  }
});

const unprivilegedBpfDisabled = readFileSync("/proc/sys/kernel/unprivileged_bpf_disabled", "utf8");
const refusalObstacle =
  unprivilegedBpfDisabled.trim() === "0"
    ? "kernel.unprivileged_bpf_disabled is 0: anyone may create maps"
    : undefined;

describe("without capabilities", () => {
  testUnless(refusalObstacle)(
    "a map is rejected with EPERM and the remedy, and bad options before that",
    async () => {
      const preload = "./test/support/drop_capabilities.ts";
      const child = await runBun(["--preload", preload, "test/maps/children/unprivileged.ts"]);
      expect(child.stderr).toBe("");
      const report = JSON.parse(child.stdout);
      for (const kind of ["hash", "array"]) {
        expect(report[kind]).toMatchObject({
          name: "BpfError",
          code: "EPERM",
          errno: 1,
          syscall: "bpf(BPF_MAP_CREATE)",
        });
        expect(report[kind].hint).toContain("This process lacks CAP_BPF: run as root");
        expect(report[kind].hint).toContain("setcap cap_bpf,cap_perfmon+ep");
        expect(report[kind].message).not.toContain("\n");
      }
      expect(report.hash.message).toStartWith(
        'cannot create the hash map "counts": bpf(BPF_MAP_CREATE): EPERM (operation not permitted). ',
      );
      // After a system call the error would be EPERM.
      expect(report.misjudged).toEqual([]);
    },
  );
});

describe("map types", () => {
  test("have one name for each number, the newer one if the kernel has two", () => {
    expect(mapType("hash").number).toBe(1);
    expect(mapTypeName(1)).toBe("hash");
    expect(mapTypeName(mapType("lru_percpu_hash").number)).toBe("lru_percpu_hash");
    expect(mapTypeName(bpfMapTypes.CGROUP_STORAGE_DEPRECATED)).toBe("cgroup_storage");
  });

  test("that are newer than the library are shown by number", () => {
    expect<string>(mapTypeName(9999)).toBe("type_9999");
  });

  test("that do not exist are rejected with a hint", () => {
    expect(() => mapType("hsah" as "hash")).toThrow('did you mean "hash"?');
    expect(() => mapType("unspec" as "hash")).toThrow(TypeError);
  });
});

test("a path for a pin must not have a NUL, which would end it early", () => {
  checkPinPath("path", "/sys/fs/bpf/a");
  for (const path of ["", "a\0b", 5, undefined]) {
    expect(() => checkPinPath("path", path as string)).toThrow(TypeError);
  }
});
