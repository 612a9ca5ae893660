/** @module Keeps events in place, and reads them in optimized code after their release and after disposal of the ring. */
import { RingBuf, t } from "../../../src/index.ts";
import { Producer } from "../producer.ts";

const Event = t.struct({ value: t.u64Number, inner: t.struct({ low: t.u32, high: t.u32 }) });
type Event = t.Infer<typeof Event>;

const ring = new RingBuf({ size: 65536, event: Event });
const producer = new Producer(ring);
let kept: Event | undefined;
let shown = 0;
const show = (event: Event) => {
  kept = event;
  shown += event.value > 0 && event.inner.low === event.inner.high ? 1 : 0;
};

function attempt(read: (event: Event) => number): number {
  try {
    return read(kept as Event);
  } catch {
    return -1;
  }
}

/** Returns the number of reads of the kept event that threw an error. */
function refusals(rounds: number): number {
  let count = 0;
  for (let round = 0; round < rounds; round++) {
    if (attempt((event) => event.value) === -1) count++;
    if (attempt((event) => event.inner.high) === -1) count++;
  }
  return count;
}

// Long enough for the engine's last compiler to compile drains, getters and their errors.
for (let round = 0; round < 300; round++) {
  for (let record = 0; record < 50; record++) producer.submit();
  ring.drain(show, { inPlace: true });
  if (refusals(50) !== 100) throw new Error("a released event was read");
}
if (shown !== 300 * 50) throw new Error(`shown ${shown}`);

let batchEvent: Event | undefined;
for (let record = 0; record < 5; record++) producer.submit();
for await (const batch of ring.batches({ inPlace: true })) {
  for (const event of batch) batchEvent ??= event;
  kept = batchEvent;
  if (attempt((event) => event.value) === -1)
    throw new Error("an event of a batch could not be read");
  ring[Symbol.dispose]();
}
Bun.gc(true);
// The next mapping can get the same address. A stale event would then read it without a crash.
const successor = new RingBuf({ size: 65536, event: Event });
if (refusals(20_000) !== 40_000) throw new Error("an event was read after disposal");
successor[Symbol.dispose]();
console.log("survived");
