/** @module Functions that run a program many times. */
import type { Program } from "../../src/index.ts";

/** A packet for programs that do not read it. It has the minimum length that the kernel accepts. */
const packet = new Uint8Array(14);

/** Runs a program at least `repeat` times; more often if a signal interrupts it, so the program has to count its runs. */
export function runMany(program: Program, repeat: number): void {
  program.testRun({ data: packet, repeat });
}

/** Runs a program exactly `times` times, each by a separate call, because a signal cannot interrupt the first run of a call. */
export function runOneByOne(program: Program, times: number): void {
  for (let run = 0; run < times; run++) program.testRun({ data: packet });
}
