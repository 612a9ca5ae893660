/** @module Reads one event and leaves the loop, without disposal of the ring. */
import { RingBuf, t } from "../../../src/index.ts";
import { Producer } from "../producer.ts";

const ring = new RingBuf({ size: 4096, event: t.u32 });
const producer = new Producer(ring);
setTimeout(() => producer.putNumber(1), 20);
for await (const event of ring) {
  console.log(event);
  break;
}
console.log("left");
