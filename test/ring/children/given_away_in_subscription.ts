/** @module Transfers the view in the callback of a subscription, and prints the state of the subscription after that. */
import { PerfBuffer, RingBuf, t } from "../../../src/index.ts";
import { PerfProducer } from "../perf_producer.ts";
import { Producer } from "../producer.ts";

const messages: string[] = [];
process.on("uncaughtException", (error) => messages.push(error.message));

const isRing = process.argv[2] === "ring";
using buffer = isRing
  ? new RingBuf({ size: 65536, event: t.u32 })
  : new PerfBuffer({ event: t.u32, size: 4096 });
using producer = isRing ? new Producer(buffer) : new PerfProducer(buffer);

const numbers: number[] = [];
using subscription = buffer.subscribeRaw((view, offset) => {
  numbers.push(view.getUint32(offset, true));
  if (numbers.length === 3)
    structuredClone(view.buffer, { transfer: [view.buffer as ArrayBuffer] });
});
for (let value = 0; value < 10; value++) producer.putNumber(value);
await Bun.sleep(200);
const { active } = subscription;
const { events, backlog } = buffer.stats;

let again = "no error";
try {
  buffer.drain(() => {});
} catch (error) {
  again = (error as Error).message;
}
// Another object continues to read the ring.
const rest: number[] = [];
if (buffer instanceof RingBuf) {
  using other = buffer.dup();
  other.drain((number) => void rest.push(number));
}
console.log(JSON.stringify({ messages, numbers, active, events, backlog, again, rest }));
