/** @module A Worker that submits records at random intervals, around the time that the consumer needs to fall asleep. */
import { testRunProgram } from "../../../src/ffi/bpf_test_run.ts";

declare const self: Worker;

/** The message to the Worker. */
export interface RaceOrder {
  readonly programFd: number;
  readonly records: number;
  readonly packet: Uint8Array;
}

self.onmessage = ({ data }: MessageEvent<RaceOrder>) => {
  const { programFd, records, packet } = data;
  const input = { data: packet, context: undefined, contextReturn: undefined, repeat: 1 };
  let made = 0;
  while (made < records) {
    // A record that does not fit is tried again: the program counts only submitted ones.
    if (testRunProgram(programFd, input, "counter").returnValue === 0) made++;
    // From 0 to about 50 µs, and sometimes so long that every bridge sleeps.
    const pause = Math.random();
    if (pause > 0.999) Bun.sleepSync(1);
    else for (let spin = Math.floor(pause * 20_000); spin > 0; spin--);
  }
};
