/** @module A Worker that consumes 50 numbers from a ring that the main thread created. */
import { RingBuf, t } from "../../../src/index.ts";

declare const self: Worker;

self.onmessage = async ({ data: fd }: MessageEvent<number>) => {
  using ring = RingBuf.fromFd(fd, { event: t.u32 });
  setTimeout(() => self.postMessage("ready"), 5);
  let expected = 0;
  for await (const event of ring) {
    if (event !== expected++) throw new Error(`got ${event}, expected ${expected - 1}`);
    if (expected === 50) break;
  }
  ring[Symbol.dispose]();
  self.postMessage(expected);
};
