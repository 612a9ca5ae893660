/** @module Consumers of every kind that were ended, some of them during a delivery. Nothing keeps the process alive then. */
import { RingBuf, t } from "../../../src/index.ts";
import { Producer } from "../producer.ts";

const ring = new RingBuf({ size: 4096, event: t.struct({ value: t.u32 }) });
const producer = new Producer(ring);
const put = () => producer.putNumber(1);

const once = ring.subscribe(() => once[Symbol.dispose](), { maxLatency: 10 });
put();
await Bun.sleep(5);

const controller = new AbortController();
ring.subscribe(() => {}, { signal: controller.signal, wakeup: "poll" });
controller.abort();

put();
const options = { inPlace: true, maxLatency: 60_000, signal: controller.signal } as const;
const alive = new AbortController();
for await (const _ of ring.batches({ ...options, signal: alive.signal })) break;
put();
for await (const _ of ring) break;

const reader = ring.stream().getReader();
void reader.read();
await reader.cancel();

const disposed = ring.dup();
disposed.subscribe(() => {});
await Bun.sleep(2);
disposed[Symbol.dispose]();

const kept = ring.subscribe(() => {});
kept.unref();
console.log("done");
