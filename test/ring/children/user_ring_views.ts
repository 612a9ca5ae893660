/** @module Uses views of records in optimized code, after the records were settled and the ring was disposed of. */
import { t, UserRingBuf } from "../../../src/index.ts";

const ring = new UserRingBuf({ size: 65536, event: t.u32 });

function fill(bytes: Uint8Array, words: Int32Array): number {
  let total = 0;
  for (let index = 0; index < 1024; index++) {
    bytes[index] = index;
    words[index & 255] = index;
    total += (bytes[index] ?? 0) + (words[index & 255] ?? 0);
  }
  return total;
}

const kept: { bytes: Uint8Array; words: Int32Array; view: DataView }[] = [];
for (let record = ring.reserve(1024); record !== undefined; record = ring.reserve(1024)) {
  const { bytes, view } = record;
  const words = new Int32Array(bytes.buffer);
  // Long enough for the engine's last compiler, each time over a view of an open record.
  let total = 0;
  for (let again = 0; again < 100; again++) total += fill(bytes, words);
  if (total === 0) throw new Error("nothing was written");
  kept.push({ bytes, words, view });
  record.submit();
}
const last = ring.reserve(8);
const ended = { bytes: last?.bytes as Uint8Array, view: last?.view as DataView };
const check = (): void => {
  for (const { bytes, words, view } of kept) {
    for (let round = 0; round < 100; round++) {
      if (fill(bytes, words) !== 0) throw new Error("a settled record was written to");
    }
    if (bytes.length + words.length + view.buffer.byteLength !== 0) throw new Error("has a length");
  }
};
check();
Bun.gc(true);
check();
ring[Symbol.dispose]();
// The next mapping can get the same address. A stale view would then write to it without a crash.
const successor = new UserRingBuf({ size: 65536, event: t.u32 });
check();
ended.bytes[0] = 1;
if (ended.bytes.length + ended.view.buffer.byteLength !== 0) throw new Error("outlived the ring");
if (successor.backlog !== 0) throw new Error("the next ring was written to");
successor[Symbol.dispose]();
Bun.gc(true);
check();
console.log("survived");
