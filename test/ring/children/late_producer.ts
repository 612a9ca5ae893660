/** @module A Worker that writes one record after a delay in which the loop of the other thread is compiled. */
import { testRunProgram } from "../../../src/ffi/bpf_test_run.ts";
import { packet } from "../producer.ts";

declare const self: Worker;

self.onmessage = ({ data }: MessageEvent<{ programFd: number }>) => {
  Bun.sleepSync(300);
  const input = { data: packet, context: undefined, contextReturn: undefined, repeat: 1 };
  testRunProgram(data.programFd, input, "producer");
};
self.postMessage("ready");
