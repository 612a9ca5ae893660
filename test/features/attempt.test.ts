import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { BpfError } from "../../src/ffi/error.ts";
import { attempt, KernelAnswer, Missing } from "../../src/features/attempt.ts";
import { Feature } from "../../src/features/feature.ts";

const { EPERM, EBADF } = { EPERM: 1, EBADF: 9 };

describe("attempt() returns the kernel's answer", () => {
  test("that it is available, if the action returns", () => {
    expect(attempt(() => {})).toBe("available");
  });

  test("the error of a system call: by this library, by node:fs, or by its name", () => {
    expect(
      attempt(() => {
        throw new BpfError({ errno: EPERM, syscall: "bpf(BPF_LINK_CREATE)", doing: "attach" });
      }),
    ).toBe("EPERM");
    expect(attempt(() => void readFileSync("/proc/self/no such file"))).toBe("ENOENT");
    expect(
      attempt(() => {
        throw new KernelAnswer("EINVAL");
      }),
    ).toBe("EINVAL");
  });

  test("a description of what is missing, which becomes the reason", () => {
    const feature = new Feature({
      name: "wings",
      since: "3.19",
      needs: [],
      probe: () =>
        attempt(() => {
          throw new Missing("this kernel has no wings");
        }),
    });
    const { status, reason } = feature;
    expect({ status, reason }).toEqual({ status: "missing", reason: "this kernel has no wings" });
  });

  test("unless the action throws another error", () => {
    const failures = [
      new Error("the cgroup of a probe cannot be removed"),
      new BpfError({ errno: EBADF, syscall: "close", doing: "close the link" }),
      new TypeError("a mistake of this library"),
    ];
    for (const failure of failures) {
      const fail = () => {
        throw failure;
      };
      expect(() => attempt(fail)).toThrow(failure);
    }
  });
});
