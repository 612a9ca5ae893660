// Measures the latency of events, from the time in the record to the callback. BUN_BPF_LOOP selects the bridge:
//   bun bench/children/latency_consumer.ts --ring ID --cpu N --method subscribe|for-await --warm-up N --events N
// It prints "ready" when it waits, and then the result in microseconds as JSON.
import { parseArgs } from "node:util";
import { monotonicNanoseconds, RingBuf } from "../../src/index.ts";
import { endWithParent, pinThread } from "../support/libc.ts";
import { sequencedEvent } from "../support/ring_programs.ts";
import { percentile } from "../support/statistics.ts";

const { values } = parseArgs({
  options: {
    ring: { type: "string" },
    cpu: { type: "string" },
    method: { type: "string" },
    "warm-up": { type: "string" },
    events: { type: "string" },
  },
});
endWithParent();
pinThread(Number(values.cpu));
const wanted = Number(values.events);
const samples: number[] = [];
let warmUp = Number(values["warm-up"]);

/** Adds the latency of an event. Returns true after the last sample. */
function addSample({ time }: { readonly time: number }): boolean {
  const latency = monotonicNanoseconds() - time;
  if (warmUp > 0) warmUp--;
  else samples.push(latency);
  return samples.length === wanted;
}

using ring = RingBuf.fromId(Number(values.ring), { event: sequencedEvent });
setTimeout(() => console.log("ready"), 1);
if (values.method === "subscribe") {
  const { promise, resolve } = Promise.withResolvers<void>();
  const subscription = ring.subscribe((event) => {
    if (!addSample(event)) return;
    subscription[Symbol.dispose]();
    resolve();
  });
  await promise;
} else {
  for await (const event of ring) if (addSample(event)) break;
}
const p50 = percentile(samples, 0.5) / 1000;
const p99 = percentile(samples, 0.99) / 1000;
console.log(JSON.stringify({ p50, p99 }));
