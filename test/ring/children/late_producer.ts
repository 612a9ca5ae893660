/** @module Writes one record, a while after it is asked to: long enough for the other thread's loop to be compiled. */
import { testRunProgram } from "../../../src/ffi/bpf_test_run.ts";
import { packet } from "../producer.ts";

declare const self: Worker;

self.onmessage = ({ data }: MessageEvent<{ programFd: number }>) => {
  Bun.sleepSync(300);
  const input = { data: packet, context: undefined, contextComesBack: undefined, repeat: 1 };
  testRunProgram(data.programFd, input, "producer");
};
self.postMessage("ready");
