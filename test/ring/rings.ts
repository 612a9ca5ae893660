/** @module Rings with a program at the other end, which are disposed of together. */
import { RingBuf, type t, UserRingBuf } from "../../src/index.ts";
import { Drainer } from "./drainer.ts";
import { Producer } from "./producer.ts";

/** A ring of a page, and a program that fills it. */
export function producedRing<Event>(
  event: t.Type<Event>,
): { readonly ring: RingBuf<t.Type<Event>>; readonly producer: Producer } & Disposable {
  const ring = new RingBuf({ size: 4096, event });
  return together({ ring, producer: new Producer(ring) });
}

/** A user ring, and a program that empties it. */
export function drainedRing<Event>(
  event: t.Type<Event>,
  size = 4096,
): { readonly ring: UserRingBuf<t.Type<Event>>; readonly drainer: Drainer } & Disposable {
  const ring = new UserRingBuf({ size, event });
  return together({ ring, drainer: new Drainer(ring) });
}

/** What is disposed of as one, the last first. */
function together<Parts extends Readonly<Record<string, Disposable>>>(
  parts: Parts,
): Parts & Disposable {
  return {
    ...parts,
    [Symbol.dispose]() {
      for (const part of Object.values(parts).reverse()) part[Symbol.dispose]();
    },
  };
}
