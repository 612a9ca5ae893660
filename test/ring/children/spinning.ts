/** @module Loops without a wait that end only when they see a record from a program on another thread. */
import { RingBuf, t } from "../../../src/index.ts";
import { Producer } from "../producer.ts";

const ring = new RingBuf({ size: 65536, event: t.u64Number });
const producer = new Producer(ring);
/** The limit for a loop that never sees the record. The Worker needs far less time. */
const patience = 10_000;
const nothing = () => {};
// The request that the other thread repeats.
producer.submit();

const conditions: Record<string, () => boolean> = {
  backlog: () => ring.backlog > 0,
  drain: () => ring.drain(nothing) > 0,
  drainRaw: () => ring.drainRaw(nothing) > 0,
};

const worker = new Worker(new URL("late_producer.ts", import.meta.url));
const ready = Promise.withResolvers<void>();
worker.onmessage = () => ready.resolve();
await ready.promise;
for (const [name, condition] of Object.entries(conditions)) {
  ring.drain(nothing);
  worker.postMessage({ programFd: producer.programFd });
  const end = performance.now() + patience;
  let rounds = 0;
  while (!condition()) {
    // Rarely, because the call makes the engine load memory again.
    if ((++rounds & 0xfff) === 0 && performance.now() > end) break;
  }
  console.log(`${name}: ${rounds > 1000 && performance.now() < end ? "seen" : "not seen"}`);
}
worker.terminate();
