import { expect, test } from "bun:test";
import type { GuestReport } from "./guest.ts";
import { asJson, details, isGoodGuest, summaryLine } from "./report.ts";
import { newest } from "./targets.ts";

const kernel = {
  target: newest,
  release: "6.12.1",
  image: "vmlinuz",
  config: "config",
  modules: [],
};
const good: GuestReport = {
  ...{ kernel, end: "off", duration: 2, console: "", output: "", features: undefined },
  ...{ tests: [], errors: [], exitCode: 0 },
};
const failed: GuestReport = {
  ...{ ...good, end: "emulator failed", exitCode: undefined },
  console: "booting\n\nqemu ended by SIGKILL: no memory\n",
};

test("a guest whose emulator failed counts as failed, and the emulator's message is shown", () => {
  expect([good, failed].map(isGoodGuest)).toEqual([true, false]);
  const report = { kernel, guests: [failed] };
  expect(Bun.stripANSI(summaryLine(report))).toContain("ended: emulator failed");
  expect(details(report).join("\n")).toContain("qemu ended by SIGKILL: no memory");
});

test("JSON has errors outside of tests, the exit codes of guests, and the paths of logs", () => {
  const errors = [{ file: "test/maps/spec.test.ts", details: "error: cannot open" }];
  const stray: GuestReport = { ...good, exitCode: 1, errors };
  const guests = [good, stray, failed];
  const folders = new Map([
    [stray, "logs/0"],
    [failed, "logs/1"],
  ]);
  expect(asJson({ kernel, guests }, folders)).toEqual({
    kernel: "6.12.1",
    ends: ["off", "off", "emulator failed"],
    exitCodes: [0, 1, null],
    logs: ["logs/0", "logs/1"],
    ...{ seconds: 2, pass: 0, fail: 0, skip: 0, todo: 0 },
    errors,
    notPassed: [],
  });
});
