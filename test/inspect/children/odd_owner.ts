/** @module Holds a map open under a name, its argument, that /proc shows as it is, and waits to be killed. */
import { writeFileSync } from "node:fs";
import { HashMap, t } from "../../../src/index.ts";

writeFileSync("/proc/self/comm", process.argv[2] ?? "odd) \n(name");
const map = new HashMap({ key: t.u32, value: t.u64, maxEntries: 4 });
console.log(map.id);
process.stdin.resume();
