/** @module Submits 100 records, one every few milliseconds, and checks that each is delivered once and in order. */
import { RingBuf, t } from "../../../src/index.ts";
import { Producer } from "../../ring/producer.ts";

const count = 100;
const ring = new RingBuf({ size: 65536, event: t.u32 });
const producer = new Producer(ring);
let next = 0;
const subscription = ring.subscribe((event) => {
  if (event !== next++) throw new Error(`${event} instead of ${next - 1}`);
  if (next < count) return;
  console.log(`${next} in order`);
  subscription[Symbol.dispose]();
});
let written = 0;
const timer = setInterval(() => {
  producer.putNumber(written++);
  if (written === count) clearInterval(timer);
}, 4);
