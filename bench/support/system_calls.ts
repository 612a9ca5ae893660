import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Child } from "./children.ts";

/** The number of system calls by name. */
export type SystemCalls = ReadonlyMap<string, number>;

/** Returns true if system calls can be counted: strace is installed. */
export function canCountSystemCalls(): boolean {
  return Bun.which("strace") !== null;
}

/**
 * Counts the system calls of all threads of a process for a time. A call that is in progress at the start counts if it returns.
 */
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

/**
 * Parses the table of strace. Its columns are percent of time, seconds, microseconds per call, calls, errors if any, and name.
 */
function parse(table: string): SystemCalls {
  const calls = new Map<string, number>();
  for (const line of table.split("\n")) {
    const columns = line.trim().split(/\s+/);
    const name = columns.at(-1) ?? "";
    const count = Number(columns[3]);
    // The kernel continues calls that strace interrupts at its start as restart_syscall, which the process has not called.
    if (!Number.isInteger(count) || name === "total" || name === "restart_syscall") continue;
    calls.set(name, count);
  }
  return calls;
}
