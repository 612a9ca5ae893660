/** Worker that runs the program of a descriptor a number of times. It posts a message at the start and sets a flag at the end. */
import { testRunProgram } from "../../../src/ffi/bpf_test_run.ts";

declare const self: Worker;

self.onmessage = ({ data }: MessageEvent<{ fd: number; runs: number; state: Int32Array }>) => {
  const { fd, runs, state } = data;
  self.postMessage("started");
  const packet = new Uint8Array(14);
  testRunProgram(
    fd,
    { data: packet, context: undefined, contextReturn: undefined, repeat: runs },
    "program",
  );
  Atomics.store(state, 0, 1);
};
