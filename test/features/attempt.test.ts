import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { BpfError } from "../../src/ffi/error.ts";
import { attempt, KernelAnswer, Missing } from "../../src/features/attempt.ts";
import { Feature } from "../../src/features/feature.ts";

const { EPERM, EBADF } = { EPERM: 1, EBADF: 9 };

describe("an attempt ends with what the kernel answers", () => {
  test("nothing, where all went well", () => {
    expect(attempt(() => {})).toBe("available");
  });

  test("the error of a call: this library's, node:fs's, or one by its name", () => {
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

  test("what is missing, in words, which are the reason then", () => {
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

  test("not with what is no answer: something could not be undone, or closed", () => {
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
