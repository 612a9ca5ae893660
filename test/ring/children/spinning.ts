/** @module Loops without a wait that end only when they see what another thread's program wrote. */
import { RingBuf, t } from "../../../src/index.ts";
import { Producer } from "../producer.ts";

const ring = new RingBuf({ size: 65536, event: t.u64Number });
const producer = new Producer(ring);
/** Far more than the Worker takes; a loop that never sees the record ends here. */
const patience = 10_000;
const nothing = () => {};
// What the other thread repeats.
producer.submit();

const looks: Record<string, () => boolean> = {
  backlog: () => ring.backlog > 0,
  drain: () => ring.drain(nothing) > 0,
  drainRaw: () => ring.drainRaw(nothing) > 0,
};

const worker = new Worker(new URL("late_producer.ts", import.meta.url));
const ready = Promise.withResolvers<void>();
worker.onmessage = () => ready.resolve();
await ready.promise;
for (const [name, look] of Object.entries(looks)) {
  ring.drain(nothing);
  worker.postMessage({ programFd: producer.programFd });
  const end = performance.now() + patience;
  let rounds = 0;
  while (!look()) {
    // Seldom, so that nothing else in the loop makes the engine read memory anew.
    if ((++rounds & 0xfff) === 0 && performance.now() > end) break;
  }
  console.log(`${name}: ${rounds > 1000 && performance.now() < end ? "seen" : "not seen"}`);
}
worker.terminate();
