/** @module A Worker that runs a program without a pause, until it is terminated. */
import { testRunProgram } from "../../../src/ffi/bpf_test_run.ts";

declare const self: Worker;

self.onmessage = ({ data }: MessageEvent<{ programFd: number; packet: Uint8Array }>) => {
  const { programFd, packet } = data;
  const input = { data: packet, context: undefined, contextReturn: undefined, repeat: 1 };
  self.postMessage("ready");
  // In slices, so that the request to end is received.
  const slice = () => {
    for (let run = 0; run < 2000; run++) testRunProgram(programFd, input, "counter");
    setImmediate(slice);
  };
  slice();
};
