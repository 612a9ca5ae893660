/**
 * Preloaded in a command: prints its peak memory as the last line on standard error, `peak 51234 kB`.
 *
 * The limits and counts of the parent are of no use: `ulimit -v` includes address space that the engine reserves, and `ru_maxrss`
 * includes the memory of the parent before the exec.
 */
import { readFileSync, writeSync } from "node:fs";

process.on("exit", () => {
  const [, peak] = /^VmHWM:\s+(\d+ kB)$/m.exec(readFileSync("/proc/self/status", "utf8")) ?? [];
  writeSync(2, `peak ${peak}\n`);
});
