/** @module Tries to create a perf buffer and a single perf event, without capabilities. */
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
