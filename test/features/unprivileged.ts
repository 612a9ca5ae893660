import { expect } from "bun:test";
import { features } from "../../src/index.ts";
import { runBun } from "../support/run.ts";
import { fresh, statuses } from "./fresh.ts";

/** Expects the available features of a group to be refused to a process without capabilities. */
export async function expectRefusals(sort: keyof typeof fresh): Promise<void> {
  const { stdout, stderr, exitCode } = await runBun([
    "--preload",
    "./test/support/drop_capabilities.ts",
    "test/features/children/statuses.ts",
    sort,
  ]);
  expect({ stderr, exitCode }).toEqual({ stderr: "", exitCode: 0 });
  const found: Record<string, string> = JSON.parse(stdout);
  for (const [name, status] of Object.entries(statuses(fresh[sort]()))) {
    // The kernel may report that a feature is missing before it checks capabilities.
    const allowed = status === "available" ? ["refused"] : ["refused", "missing"];
    if (features.settings.unprivileged === "allowed") allowed.push("available");
    expect(allowed, name).toContain(found[name] ?? "nothing");
  }
}
