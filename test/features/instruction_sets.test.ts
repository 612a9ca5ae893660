import { describe, expect } from "bun:test";
import { bpfTest } from "../support/privilege.ts";
import { countResources } from "../support/resources.ts";
import { contradictions } from "./contradictions.ts";
import { fresh, statuses } from "./fresh.ts";
import { expectRefusals } from "./unprivileged.ts";

describe("instruction sets and ext programs", () => {
  bpfTest("match the kernel's version", () => {
    const sets = fresh.instructions();
    expect(sets.length).toBeGreaterThan(20);
    expect(contradictions(sets)).toEqual([]);
  });

  bpfTest("are probed twice with the same results, and leave nothing", () => {
    const first = statuses(fresh.instructions());
    const before = countResources();
    expect(statuses(fresh.instructions())).toEqual(first);
    expect(countResources()).toEqual(before);
  });

  bpfTest("are all refused to a process without capabilities", async () => {
    await expectRefusals("instructions");
  });
});
