/** @module Opens a map in a process with the name of its argument, and waits to be killed. */
import { writeFileSync } from "node:fs";
import { HashMap, t } from "../../../src/index.ts";

writeFileSync("/proc/self/comm", process.argv[2] ?? "odd) \n(name");
const map = new HashMap({ key: t.u32, value: t.u64, maxEntries: 4 });
console.log(map.id);
process.stdin.resume();
