/** @module A Worker that writes one record after another, each a random time after the previous one was answered. */
import { testRunProgram } from "../../../src/ffi/bpf_test_run.ts";

declare const self: Worker;

/** The message from the test to the Worker. */
export interface AnsweredOrder {
  readonly programFd: number;
  readonly records: number;
  readonly packet: Uint8Array;
  /** The number of answered records, in the first element. */
  readonly answers: Int32Array;
}

self.onmessage = ({ data }: MessageEvent<AnsweredOrder>) => {
  const { programFd, records, packet, answers } = data;
  const input = { data: packet, context: undefined, contextReturn: undefined, repeat: 1 };
  for (let made = 0; made < records; made++) {
    while (Atomics.load(answers, 0) < made);
    // Up to about 10 µs: around the time that the consumer needs to start its wait.
    const spins = Math.floor(Math.random() * Math.random() * 60_000);
    for (let spin = spins; spin > 0; spin--);
    testRunProgram(programFd, input, "counter");
  }
};
