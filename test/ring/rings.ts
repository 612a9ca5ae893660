/** @module Rings together with the program at their other end. */
import { RingBuf, type t, UserRingBuf } from "../../src/index.ts";
import { Drainer } from "./drainer.ts";
import { Producer } from "./producer.ts";

/** Creates a ring of one page, and a program that writes to it. */
export function producedRing<Event>(
  event: t.Type<Event>,
): { readonly ring: RingBuf<t.Type<Event>>; readonly producer: Producer } & Disposable {
  const ring = new RingBuf({ size: 4096, event });
  return disposedTogether({ ring, producer: new Producer(ring) });
}

/** Creates a user ring, and a program that drains it. */
export function drainedRing<Event>(
  event: t.Type<Event>,
  size = 4096,
): { readonly ring: UserRingBuf<t.Type<Event>>; readonly drainer: Drainer } & Disposable {
  const ring = new UserRingBuf({ size, event });
  return disposedTogether({ ring, drainer: new Drainer(ring) });
}

/** Returns an object that disposes of several resources, the last one first. */
function disposedTogether<Resources extends Readonly<Record<string, Disposable>>>(
  resources: Resources,
): Resources & Disposable {
  return {
    ...resources,
    [Symbol.dispose]() {
      for (const resource of Object.values(resources).reverse()) resource[Symbol.dispose]();
    },
  };
}
