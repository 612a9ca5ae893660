/** @module A subscription whose callback throws, in a process without a listener for uncaught exceptions. */
import { RingBuf, t } from "../../../src/index.ts";
import { Producer } from "../producer.ts";

const awaits = process.argv[2] === "awaits";
const ring = new RingBuf({ size: 4096, event: t.u32 });
const producer = new Producer(ring);
ring.subscribe((event) => {
  if (event === 1) throw new Error("of event 1");
  console.log(event);
});
for (const value of [0, 1, 2]) producer.putNumber(value);
process.on("exit", (code) => console.log(`exit ${code}`));
// Without the exception, the process would not end.
setInterval(() => {}, 10);
if (awaits) {
  while (ring.stats.events < 3) await Bun.sleep(5);
  producer.putNumber(3);
  while (ring.stats.events < 4) await Bun.sleep(5);
  console.log("end of the script");
}
