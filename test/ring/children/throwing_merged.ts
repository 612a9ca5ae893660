/** @module A consumer of two rings whose callback throws at the first events. */
import { MergedEvents, RingBuf, t } from "../../../src/index.ts";
import { Producer } from "../producer.ts";

process.on("uncaughtException", (error) => console.log(`uncaught: ${error.message}`));
using a = new RingBuf({ size: 4096, event: t.u32 });
using b = new RingBuf({ size: 4096, event: t.u32 });
using toA = new Producer(a);
using toB = new Producer(b);
for (const value of [1, 2]) toA.putNumber(value);
toB.putNumber(3);
let left = 3;
const { promise, resolve } = Promise.withResolvers<void>();
using _ = new MergedEvents({ a, b }).subscribe(({ from, event }) => {
  console.log(`${from}${event}`);
  if (--left === 0) resolve();
  if (left === 2) throw new Error(`of ${from}${event}`);
});
await promise;
