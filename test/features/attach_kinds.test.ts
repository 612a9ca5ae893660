import { describe, expect } from "bun:test";
import { existsSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import { listPrograms } from "../../src/index.ts";
import { bpfTest } from "../support/privilege.ts";
import { countResources } from "../support/resources.ts";
import { contradictions } from "./contradictions.ts";
import { fresh, statuses } from "./fresh.ts";
import { probeCgroups } from "./probe_cgroups.ts";
import { expectRefusals } from "./unprivileged.ts";

/** Returns the state of this process and of the machine that a probe could change. */
function surroundings(): object {
  const congestion = "/proc/sys/net/ipv4/tcp_available_congestion_control";
  return {
    resources: countResources(),
    descriptors: readdirSync("/proc/self/fd").length,
    networkNamespace: readlinkSync("/proc/thread-self/ns/net"),
    interfaces: readFileSync("/proc/thread-self/net/dev", "utf8").match(/^.*:/gm),
    cgroupOptions: readFileSync("/proc/self/mountinfo", "utf8").match(/ - cgroup2 .*$/gm),
    cgroups: probeCgroups(),
    congestionControl: existsSync(congestion) ? readFileSync(congestion, "utf8") : undefined,
  };
}

/** Waits until the programs of probes are gone, and returns their number: the kernel frees namespaces and programs asynchronously. */
async function programsLeft(): Promise<number> {
  for (const deadline = Date.now() + 30_000; ; await Bun.sleep(50)) {
    const left = [...listPrograms()].filter(({ name }) => name === "probe").length;
    if (left === 0 || Date.now() > deadline) return left;
  }
}

describe("ways to attach programs", () => {
  bpfTest("match the kernel's version", () => {
    const kinds = fresh.attachKinds();
    expect(kinds.length).toBeGreaterThan(70);
    expect(contradictions(kinds)).toEqual([]);
  });

  bpfTest(
    "are probed twice with the same results, and leave nothing",
    async () => {
      const first = statuses(fresh.attachKinds());
      const before = surroundings();
      expect(statuses(fresh.attachKinds())).toEqual(first);
      expect(surroundings()).toEqual(before);
      expect(await programsLeft()).toBe(0);
    },
    120_000,
  );

  bpfTest("are all refused to a process without capabilities", async () => {
    await expectRefusals("attachKinds");
  });
});
