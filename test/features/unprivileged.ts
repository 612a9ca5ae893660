import { expect } from "bun:test";
import { features } from "../../src/index.ts";
import { runBun } from "../support/run.ts";
import { fresh, statuses } from "./fresh.ts";

/** Expects a process without capabilities to be refused all features of a sort that this process has. */
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
    // What a kernel lacks, it may lack before it asks for capabilities.
    const allowed = status === "available" ? ["refused"] : ["refused", "missing"];
    if (features.settings.unprivileged === "allowed") allowed.push("available");
    expect(allowed, name).toContain(found[name] ?? "nothing");
  }
}
