/** @module Starts a consumer while few descriptors are free, and prints the bridges that deliver its events then and later. */
import { type BpfError, eventLoop, RingBuf, t } from "../../../src/index.ts";
import { Producer } from "../../ring/producer.ts";
import { takeDescriptors } from "../../support/last_descriptors.ts";

using ring = new RingBuf({ size: 65536, event: t.u32 });
using other = new RingBuf({ size: 4096, event: t.u32 });
using producer = new Producer(ring);
const received: number[] = [];
const events: number[] = [];
const bridges: (string | undefined)[] = [];

function subscribe() {
  const subscription = ring.subscribe((event) => void received.push(event));
  bridges.push(eventLoop.bridge);
  return subscription;
}

/** Submits records, some of them while the loop sleeps, and counts the events. */
async function deliver(): Promise<void> {
  const before = received.length;
  for (let value = 0; value < 20; value++) {
    producer.putNumber(value);
    if (value % 5 === 0) await Bun.sleep(20);
  }
  await Bun.sleep(100);
  events.push(received.length - before);
}

{
  using _ = subscribe();
  await deliver();
}
const errors: BpfError[] = [];
{
  using taken = takeDescriptors(Number(process.argv[2]));
  using _ = subscribe();
  errors.push(...(eventLoop.refusals as BpfError[]));
  await deliver();
  taken[Symbol.dispose]();
  // Longer than the interval of attempts.
  for (let wait = 0; wait < 40 && eventLoop.refusals.length > 0; wait++) await Bun.sleep(100);
  bridges.push(eventLoop.bridge);
  await deliver();
}
{
  using taken = takeDescriptors(0);
  using _ = subscribe();
  taken[Symbol.dispose]();
  using _second = other.subscribe(() => {});
  bridges.push(eventLoop.bridge);
  await deliver();
}
bridges.push(eventLoop.bridge);
const messages = errors.map(({ code, message }) => ({ code, message }));
console.log(JSON.stringify({ bridges, events, messages }));
