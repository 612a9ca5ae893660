/** @module A subscription whose callback throws, and whose third record is too short for its type. */
import { RingBuf, t } from "../../../src/index.ts";
import { Producer } from "../producer.ts";

process.on("uncaughtException", (error) => {
  console.log(`uncaught: ${error instanceof RangeError ? "too short" : error.message}`);
});

const ring = new RingBuf({ size: 4096, event: t.u32 });
const producer = new Producer(ring);
const subscription = ring.subscribe((event) => {
  if (event === 1) throw new Error("of event 1");
  console.log(event);
  if (event !== 4) return;
  subscription[Symbol.dispose]();
  setImmediate(() => console.log(`end ${ring.stats.events}`));
});
for (const value of [0, 1, 2]) producer.putNumber(value);
producer.put(Uint8Array.of(1));
producer.putNumber(4);
