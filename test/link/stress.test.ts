/** Attaches and detaches many times in each way, and looks for leaks: in this process and in the kernel. */
import { describe, expect } from "bun:test";
import { readdirSync } from "node:fs";
import { isKernelSince } from "../../src/ffi/kernel.ts";
import { features, listLinks, listPrograms } from "../../src/index.ts";
import { repetitions } from "../support/effort.ts";
import { testWith } from "../support/needs.ts";
import { settledResources } from "../support/resources.ts";
import { isGuest } from "../support/skipping.ts";
import { eventually } from "./eventually.ts";
import { loadFor } from "../../src/features/attach_probes.ts";
import { atPlaceOf, type Way, ways } from "./all_ways.ts";

/** Time limit of a test in milliseconds. It is for slow ways with a great effort. */
const timeoutMs = 1_800_000;

/** Number of repetitions in an emulated kernel. */
const guestRounds = 100;

/** Matches sections of tracepoints, and of functions whose code the kernel changes. */
const slowSection =
  /^(?:tp|tp_btf|raw_tp|k(?:ret)?(?:probe|syscall)|u(?:ret)?probe|usdt|f\w+|lsm)(?:[./]|$)/;

/**
 * Returns the number of repetitions. In many ways the kernel waits for grace periods: about 120 ms for uprobes, 70 ms for
 * tracepoints, 25 ms for interfaces, and 10 ms for raw tracepoints.
 *
 * Fast ways are repeated 10,000 times with `BUN_BPF_TEST_EFFORT=10`, and slow ones 2,000 times with 100.
 */
function roundsOf({ row: { section, place } }: Way): number {
  const isSlow = slowSection.test(section) || place === "loopback" || place === "netkit";
  return isGuest ? guestRounds : repetitions(isSlow ? 20 : 1000);
}

/** Returns true if the kernel attaches a program only once: those that replace functions, and before Linux 5.13 all trampolines. */
function isAttachedOnce({ row: { section } }: Way): boolean {
  if (section.startsWith("freplace/")) return true;
  return /^(?:fentry|fexit|fmod_ret|lsm)\//.test(section) && !isKernelSince("5.13");
}

describe("attaching and detaching many times leaves nothing", () => {
  for (const way of ways) {
    testWith(features.attachKinds.get(way.kind))(
      way.kind,
      async () => {
        const before = await settledResources();
        const descriptors = readdirSync("/proc/self/fd").length;
        const programIds = new Set<number>();
        const loads = isAttachedOnce(way) ? roundsOf(way) : 1;
        for (let load = 0; load < loads; load++) {
          using program = loadFor(way.row, "way");
          programIds.add(program.id);
          atPlaceOf(way, (options) => {
            for (let round = 0; round < roundsOf(way) / loads; round++) {
              using _link = program.attach(options);
            }
          });
        }
        expect(await settledResources()).toEqual(before);
        expect(readdirSync("/proc/self/fd")).toHaveLength(descriptors);
        const isGone = () =>
          ![...listPrograms()].some(({ id }) => programIds.has(id)) &&
          ![...listLinks()].some((link) => programIds.has(link.programId));
        expect(await eventually(isGone)).toBe(true);
      },
      timeoutMs,
    );
  }
});
