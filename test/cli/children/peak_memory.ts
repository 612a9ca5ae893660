/**
 * Has a command say at its end how much memory it took at most, as the last line on standard error: `peak 51234 kB`.
 *
 * The limits and counts that a parent sees of its child (`ulimit -v`, `ru_maxrss`) are those of the engine's reservations, and of the
 * parent itself before the child became another program.
 */
import { readFileSync, writeSync } from "node:fs";

process.on("exit", () => {
  const [, peak] = /^VmHWM:\s+(\d+ kB)$/m.exec(readFileSync("/proc/self/status", "utf8")) ?? [];
  writeSync(2, `peak ${peak}\n`);
});
