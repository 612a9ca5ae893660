/**
 * @module A Worker that writes to a user ring, which other threads write to at the same time, until it gets a request to stop.
 */
import { t, UserRingBuf } from "../../../src/index.ts";

declare const self: Worker;

/** The message from the test to the Worker. */
export interface Order {
  readonly ringFd: number;
  /** The length of each record in bytes. */
  readonly length: number;
  /** Set to 1 when the writers should end. */
  readonly stop: Int32Array;
}

function write({ ringFd, length, stop }: Order): { failures: string[]; refused: number } {
  using ring = UserRingBuf.fromFd(ringFd, { event: t.bytes(length) });
  const bytes = new Uint8Array(length);
  bytes[0] = length;
  const failures: string[] = [];
  let refused = 0;
  self.postMessage("ready");
  while (Atomics.load(stop, 0) === 0) {
    try {
      ring.output(bytes);
    } catch (error) {
      if (String(error).includes("one writer at a time")) refused++;
      else failures.push(String(error));
    }
  }
  return { failures: failures.slice(0, 3), refused };
}

self.onmessage = ({ data }: MessageEvent<Order>) => self.postMessage(write(data));
