/** @module A Worker that drains a ring, which other threads drain at the same time, until it gets a request to stop. */
import { RingBuf, t } from "../../../src/index.ts";

declare const self: Worker;

/** The message from the test to the Worker. */
export interface Order {
  readonly ringFd: number;
  /** The number of times that any consumer saw each number. */
  readonly seen: Uint8Array;
  /** Set to 1 when the consumers should end. */
  readonly stop: Int32Array;
}

function consume({ ringFd, seen, stop }: Order): { failure: string | undefined; events: number } {
  using ring = RingBuf.fromFd(ringFd, { event: t.u64Number });
  let events = 0;
  const one = (view: DataView, offset: number): void => {
    events++;
    const number = view.getUint32(offset, true);
    if (number < seen.length) Atomics.add(seen, number, 1);
  };
  self.postMessage("ready");
  try {
    // A few at a time, so that the positions differ.
    for (let limit = 1; Atomics.load(stop, 0) === 0; limit = (limit % 50) + 1) {
      ring.drainRaw(one, { limit });
    }
    return { failure: undefined, events };
  } catch (error) {
    return { failure: String(error), events };
  }
}

self.onmessage = ({ data }: MessageEvent<Order>) => self.postMessage(consume(data));
