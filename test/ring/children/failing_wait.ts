/** @module A subscription whose wait starts to fail. It ends, and the ring accepts another consumer. */
import { RingBuf, t } from "../../../src/index.ts";
import { IoUring } from "../../../src/ffi/io_uring.ts";
import { Producer } from "../producer.ts";

process.on("uncaughtException", (error) => console.log(`uncaught: ${error.message}`));

const ring = new RingBuf({ size: 4096, event: t.u32 });
const producer = new Producer(ring);
const pollAndSend = IoUring.prototype.pollAndSend;
const subscription = ring.subscribe((event) => {
  console.log(event);
  IoUring.prototype.pollAndSend = () => {
    throw new Error("wait failed on purpose");
  };
});
producer.putNumber(1);
await Bun.sleep(20);
IoUring.prototype.pollAndSend = pollAndSend;
console.log(subscription.active);
producer.putNumber(2);
for await (const event of ring) {
  console.log(event);
  break;
}
