/** @module Leaves a loop, waits for an event from an unreferenced timer, and exits although a subscription is active. */
import { PerfBuffer, t } from "../../../src/index.ts";
import { PerfProducer } from "../perf_producer.ts";

const buffer = new PerfBuffer({ event: t.u32 });
const producer = new PerfProducer(buffer);
setTimeout(() => producer.putNumber(1), 20);
for await (const event of buffer) {
  console.log(event);
  break;
}
console.log("left");
setTimeout(() => producer.putNumber(7), 300).unref();
for await (const event of buffer) {
  console.log(event);
  break;
}
buffer.subscribe(() => {}).unref();
console.log("unreferenced");
