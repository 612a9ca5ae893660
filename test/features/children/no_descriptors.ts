/** Probes a map type while this process cannot open a descriptor, and again when it can. Prints the results. */
import { closeSync, openSync } from "node:fs";
import { features } from "../../../src/index.ts";

const map = features.mapTypes.get("hash");
const descriptors: number[] = [];
try {
  for (;;) descriptors.push(openSync("/dev/null", "r"));
} catch (error) {
  console.log((error as NodeJS.ErrnoException).code);
}
try {
  console.log(map.available);
} catch (error) {
  console.log((error as Error).message);
}
for (const descriptor of descriptors) closeSync(descriptor);
console.log(map.available);
