import { readdirSync, readFileSync } from "node:fs";

/** The number of voluntary context switches of each thread of a process, by thread id. */
export type Switches = ReadonlyMap<string, number>;

/** Returns the context switches of the current threads of a process. */
export function voluntarySwitches(pid: number): Switches {
  const switches = new Map<string, number>();
  for (const thread of readdirSync(`/proc/${pid}/task`)) {
    try {
      const status = readFileSync(`/proc/${pid}/task/${thread}/status`, "utf8");
      switches.set(thread, Number(/^voluntary_ctxt_switches:\s+(\d+)$/m.exec(status)?.[1]));
    } catch {
      // The thread has ended since it was listed.
    }
  }
  return switches;
}

/** Returns the number of context switches between two measurements. Threads that have ended are not included. */
export function switchesBetween(before: Switches, after: Switches): number {
  let total = 0;
  for (const [thread, count] of after) total += count - (before.get(thread) ?? 0);
  return total;
}

/** Returns the resident memory of a process in bytes. */
export function residentMemory(pid: number | "self"): number {
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1]) * 1024;
}
