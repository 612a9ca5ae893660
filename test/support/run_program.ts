/** @module Programs that are run many times. */
import type { Program } from "../../src/index.ts";

/** A packet for programs that do not look at it: the kernel wants no shorter one. */
const packet = new Uint8Array(14);

/** Runs a program so many times, or more where a signal comes: how many there were, the program's own counts tell. */
export function runMany(program: Program, repeat: number): void {
  program.testRun({ data: packet, repeat });
}

/** Runs a program exactly so many times: each by a call of its own, as no signal ends the first run. */
export function runOneByOne(program: Program, times: number): void {
  for (let run = 0; run < times; run++) program.testRun({ data: packet });
}
