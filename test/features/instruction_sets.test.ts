import { describe, expect } from "bun:test";
import { bpfTest } from "../support/privilege.ts";
import { countResources } from "../support/resources.ts";
import { contradictions } from "./contradictions.ts";
import { fresh, statuses } from "./fresh.ts";
import { expectRefusals } from "./unprivileged.ts";

describe("instructions, and programs that extend others", () => {
  bpfTest("the kernel has those that its version has", () => {
    const sets = fresh.instructions();
    expect(sets.length).toBeGreaterThan(20);
    expect(contradictions(sets)).toEqual([]);
  });

  bpfTest("to try them twice leaves nothing, and gives the same answers", () => {
    const first = statuses(fresh.instructions());
    const before = countResources();
    expect(statuses(fresh.instructions())).toEqual(first);
    expect(countResources()).toEqual(before);
  });

  bpfTest("a process without capabilities is refused all of them", async () => {
    await expectRefusals("instructions");
  });
});
