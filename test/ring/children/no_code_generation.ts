/** @module Drains enough events for a copy of the drain code, which cannot be generated here. */
import { RingBuf, t } from "../../../src/index.ts";
import { Producer } from "../producer.ts";

const ring = new RingBuf({ size: 1 << 20, event: t.struct({ value: t.u32 }) });
const producer = new Producer(ring);
const count = 20_000;
let next = 0;
const counts: number[] = [];
for (const drain of [
  () => ring.drain(({ value }) => check(value)),
  () => ring.drain(({ value }) => check(value), { inPlace: true }),
  () => ring.drainRaw((view, offset) => check(view.getUint32(offset, true))),
]) {
  for (let value = 0; value < count; value++) producer.putNumber(next + value);
  counts.push(drain());
}
console.log(`drained ${counts[0]}, in place ${counts[1]}, raw ${counts[2]}`);

function check(value: number): void {
  if (value !== next++) throw new Error(`${value} instead of ${next - 1}`);
}
