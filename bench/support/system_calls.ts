import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Child } from "./children.ts";

/** How many system calls of each kind. */
export type SystemCalls = ReadonlyMap<string, number>;

/** Whether system calls can be counted here. */
export function canCountSystemCalls(): boolean {
  return Bun.which("strace") !== null;
}

/** Counts the system calls of all threads of a process for a while. What it waits for already counts when it comes back. */
export async function countSystemCalls(pid: number, seconds: number): Promise<SystemCalls> {
  const folder = mkdtempSync(join(tmpdir(), "calls-"));
  const path = join(folder, "calls");
  try {
    const tracer = new Child(["strace", "-qq", "-c", "-f", "-p", `${pid}`, "-o", path]);
    await Bun.sleep(seconds * 1000);
    tracer.signal("SIGINT");
    await tracer.ended();
    return parse(readFileSync(path, "utf8"));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** The columns are the share of the time, seconds, microseconds a call, calls, errors if any, and the name. */
function parse(table: string): SystemCalls {
  const calls = new Map<string, number>();
  for (const line of table.split("\n")) {
    const columns = line.trim().split(/\s+/);
    const name = columns.at(-1) ?? "";
    const count = Number(columns[3]);
    // A call that was under way when the counting began is begun anew by this, not by the process.
    if (!Number.isInteger(count) || name === "total" || name === "restart_syscall") continue;
    calls.set(name, count);
  }
  return calls;
}
