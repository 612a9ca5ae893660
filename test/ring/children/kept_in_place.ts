/** @module Keeps what was shown in place, and reads it in compiled code after its release and after the ring's end. */
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

/** How many reads of the event that was kept were refused. */
function refusals(rounds: number): number {
  let count = 0;
  for (let round = 0; round < rounds; round++) {
    if (attempt((event) => event.value) === -1) count++;
    if (attempt((event) => event.inner.high) === -1) count++;
  }
  return count;
}

// Until drains, getters and their refusals are compiled by the engine's last tier, in turn.
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
  if (attempt((event) => event.value) === -1) throw new Error("an event of a batch was refused");
  ring[Symbol.dispose]();
}
Bun.gc(true);
// Whatever is mapped next may get the same address: a stale event would then read it without a crash.
const successor = new RingBuf({ size: 65536, event: Event });
if (refusals(20_000) !== 40_000) throw new Error("an event was read after disposal");
successor[Symbol.dispose]();
console.log("survived");
