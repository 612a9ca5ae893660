/** @module Tries, without capabilities, to make a perf buffer, and a perf event alone. */
import { openOutputEvent } from "../../../src/ffi/perf_event.ts";
import { BpfError, PerfBuffer, t } from "../../../src/index.ts";

for (const attempt of [
  () => new PerfBuffer({ event: t.u32 }),
  () => openOutputEvent(0, {}, "perf event"),
]) {
  try {
    attempt();
    console.log("allowed");
  } catch (error) {
    if (!(error instanceof BpfError)) throw error;
    console.log(error.code, error.hint);
  }
}
