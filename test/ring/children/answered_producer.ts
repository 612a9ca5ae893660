/** @module A Worker that makes one record after the other, each at some time after the one before was answered. */
import { testRunProgram } from "../../../src/ffi/bpf_test_run.ts";

declare const self: Worker;

/** What the Worker is told. */
export interface AnsweredOrder {
  readonly programFd: number;
  readonly records: number;
  readonly packet: Uint8Array;
  /** In its first element: how many records were answered. */
  readonly answers: Int32Array;
}

self.onmessage = ({ data }: MessageEvent<AnsweredOrder>) => {
  const { programFd, records, packet, answers } = data;
  const input = { data: packet, context: undefined, contextComesBack: undefined, repeat: 1 };
  for (let made = 0; made < records; made++) {
    while (Atomics.load(answers, 0) < made);
    // Some 10 µs, more often less: around the time that the consumer needs to fall asleep.
    const spins = Math.floor(Math.random() * Math.random() * 60_000);
    for (let spin = spins; spin > 0; spin--);
    testRunProgram(programFd, input, "counter");
  }
};
