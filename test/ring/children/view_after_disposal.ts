/** @module Reads the memory of a ring in optimized code, before and after disposal: a stale address would end the process. */
import { RingBuf, t } from "../../../src/index.ts";
import { Producer } from "../producer.ts";

const ring = new RingBuf({ size: 65536, event: t.u32 });
const producer = new Producer(ring);
for (let value = 0; value < 1000; value++) producer.putNumber(value);

const views: DataView[] = [];
ring.drainRaw((view) => {
  if (views.length === 0) views.push(view);
});
const kept = views[0] as DataView;
const bytes = new Uint8Array(kept.buffer, kept.byteOffset, kept.byteLength);
const words = new Int32Array(kept.buffer, kept.byteOffset, kept.byteLength / 4);

function sum(from: Uint8Array, wide: Int32Array): number {
  let total = 0;
  for (let index = 0; index < 4096; index++) {
    total += (from[index] ?? 0) + (wide[index] ?? 0);
  }
  return total;
}

function readAt(view: DataView, offset: number): number {
  try {
    return view.getUint32(offset, true);
  } catch {
    return -1;
  }
}

// Long enough for the engine's last compiler to compile both.
let total = 0;
for (let round = 0; round < 3000; round++) total += sum(bytes, words);
for (let round = 0; round < 1_000_000; round++) total += readAt(kept, (round * 4) % 4096);
if (total === 0) throw new Error("there was nothing to read");

ring[Symbol.dispose]();
Bun.gc(true);
// The next mapping can get the same address. A stale view would then read it without a crash.
const successor = new RingBuf({ size: 65536, event: t.u32 });
for (let round = 0; round < 3000; round++) {
  if (sum(bytes, words) !== 0) throw new Error("read after disposal");
}
for (let round = 0; round < 100_000; round++) {
  if (readAt(kept, (round * 4) % 4096) !== -1) throw new Error("read after disposal");
}
if (bytes.length !== 0 || words.length !== 0) throw new Error("the views have a length");
successor[Symbol.dispose]();
Bun.gc(true);
if (sum(bytes, words) !== 0) throw new Error("read after disposal");
console.log("survived");
