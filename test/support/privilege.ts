import { readFileSync } from "node:fs";
import { ArrayMap, BpfError, t } from "../../src/index.ts";
import { type DefineTest, testUnless } from "./skipping.ts";

/** Why tests that need the kernel's BPF cannot run here, or `undefined` where they can. */
export const bpfObstacle: string | undefined = findObstacle();

function findObstacle(): string | undefined {
  try {
    using _map = new ArrayMap({ value: t.u32, length: 1 });
    return undefined;
  } catch (error) {
    if (!(error instanceof BpfError) || error.code !== "EPERM") throw error;
    // A machine that has the privilege and yet refuses must not pass by skipping.
    if (process.env.CI === "true" && isRoot()) throw error;
    return error.message;
  }
}

function isRoot(): boolean {
  const capabilities = /^CapEff:\s*([0-9a-f]+)$/m.exec(readFileSync("/proc/self/status", "utf8"));
  const sysAdmin = 21n;
  return ((BigInt(`0x${capabilities?.[1] ?? "0"}`) >> sysAdmin) & 1n) === 1n;
}

/** A test that calls bpf(2): skipped, with the reason in its name, where this process may not. */
export const bpfTest: DefineTest = testUnless(bpfObstacle);
