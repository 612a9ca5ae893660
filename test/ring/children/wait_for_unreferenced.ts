/** @module Waits for an event from an unreferenced timer. Only the wait keeps the process alive. */
import { RingBuf, t } from "../../../src/index.ts";
import { Producer } from "../producer.ts";

const ring = new RingBuf({ size: 4096, event: t.u32 });
const producer = new Producer(ring);
setTimeout(() => producer.putNumber(7), 300).unref();
for await (const event of ring) {
  console.log(event);
  break;
}
console.log("left");
