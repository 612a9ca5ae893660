/** @module Consumers that do not keep the process alive: it exits after its own timers. */
import { RingBuf, t } from "../../../src/index.ts";
import { Producer } from "../producer.ts";

const ring = new RingBuf({ size: 4096, event: t.u32 });
const producer = new Producer(ring);

/** Writes a record while the consumer waits, and gives it time to deliver it. */
async function deliver(value: number): Promise<void> {
  await Bun.sleep(30);
  producer.putNumber(value);
  await Bun.sleep(60);
}

{
  using subscription = ring.subscribe((event) => console.log("subscribed", event));
  subscription.unref();
  await deliver(1);
}
ring.unref();
{
  using _ = ring.subscribe((event) => console.log("ring", event));
  await deliver(2);
}
ring.ref();
const last = ring.subscribe((event) => console.log("again", event));
await deliver(3);
last.unref().ref().unref();
