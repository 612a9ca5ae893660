import { readdirSync, readFileSync } from "node:fs";

/** How often each thread of a process went to sleep of its own accord, by its id. */
export type Switches = ReadonlyMap<string, number>;

/** Those of the threads that there are now. */
export function voluntarySwitches(pid: number): Switches {
  const switches = new Map<string, number>();
  for (const thread of readdirSync(`/proc/${pid}/task`)) {
    try {
      const status = readFileSync(`/proc/${pid}/task/${thread}/status`, "utf8");
      switches.set(thread, Number(/^voluntary_ctxt_switches:\s+(\d+)$/m.exec(status)?.[1]));
    } catch {
      // It has ended since it was listed.
    }
  }
  return switches;
}

/** How many there were in between, but for those of threads that have ended. */
export function switchesBetween(before: Switches, after: Switches): number {
  let total = 0;
  for (const [thread, count] of after) total += count - (before.get(thread) ?? 0);
  return total;
}

/** Bytes of memory that a process has, resident. */
export function residentMemory(pid: number | "self"): number {
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1]) * 1024;
}
