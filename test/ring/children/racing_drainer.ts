/** @module A Worker that drains a user ring buffer at random intervals, until it is terminated. */
import { testRunProgram } from "../../../src/ffi/bpf_test_run.ts";

declare const self: Worker;

self.onmessage = async ({ data: programFd }: MessageEvent<number>) => {
  const input = { data: undefined, context: undefined, contextReturn: undefined, repeat: 1 };
  for (;;) {
    testRunProgram(programFd, input, "checker");
    // Up to about 50 µs, and sometimes long enough for every bridge to start its wait.
    const pause = Math.random();
    if (pause > 0.99) await Bun.sleep(1);
    else for (let spin = Math.floor(pause * 20_000); spin > 0; spin--);
  }
};
