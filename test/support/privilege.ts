import { readFileSync } from "node:fs";
import { ArrayMap, BpfError, t } from "../../src/index.ts";
import { type DefineTest, testUnless } from "./skipping.ts";

/** The reason for which this process cannot use bpf(2), or `undefined`. */
export const bpfObstacle: string | undefined = findObstacle();

function findObstacle(): string | undefined {
  try {
    using _map = new ArrayMap({ value: t.u32, length: 1 });
    return undefined;
  } catch (error) {
    if (!(error instanceof BpfError) || error.code !== "EPERM") throw error;
    // A machine of CI that refuses the call although the process is privileged must fail, not skip its tests.
    if (process.env.CI === "true" && isRoot()) throw error;
    return error.message;
  }
}

function isRoot(): boolean {
  const capabilities = /^CapEff:\s*([0-9a-f]+)$/m.exec(readFileSync("/proc/self/status", "utf8"));
  const sysAdmin = 21n;
  return ((BigInt(`0x${capabilities?.[1] ?? "0"}`) >> sysAdmin) & 1n) === 1n;
}

/** Defines a test that calls bpf(2). It is skipped, with the reason in its name, if this process may not. */
export const bpfTest: DefineTest = testUnless(bpfObstacle);
