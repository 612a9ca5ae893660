/** @module Rings with a program at the other end, which are disposed of together. */
import { RingBuf, type t, UserRingBuf } from "../../src/index.ts";
import { Drainer } from "./drainer.ts";
import { Producer } from "./producer.ts";

/** A ring of a page, and a program that fills it. */
export function producedRing<Event>(
  event: t.Type<Event>,
): { readonly ring: RingBuf<Event>; readonly producer: Producer } & Disposable {
  const ring = new RingBuf({ size: 4096, event });
  const producer = new Producer(ring);
  return {
    ring,
    producer,
    [Symbol.dispose]() {
      producer[Symbol.dispose]();
      ring[Symbol.dispose]();
    },
  };
}

/** A user ring, and a program that empties it. */
export function drainedRing<Event>(
  event: t.Type<Event>,
  size = 4096,
): { readonly ring: UserRingBuf<Event>; readonly drainer: Drainer } & Disposable {
  const ring = new UserRingBuf({ size, event });
  const drainer = new Drainer(ring);
  return {
    ring,
    drainer,
    [Symbol.dispose]() {
      drainer[Symbol.dispose]();
      ring[Symbol.dispose]();
    },
  };
}
