/** Runs the program of a descriptor as often as it is told, says when it begins, and sets the state when it is done. */
import { testRunProgram } from "../../../src/ffi/bpf_test_run.ts";

declare const self: Worker;

self.onmessage = ({ data }: MessageEvent<{ fd: number; runs: number; state: Int32Array }>) => {
  const { fd, runs, state } = data;
  self.postMessage("started");
  const packet = new Uint8Array(14);
  testRunProgram(
    fd,
    { data: packet, context: undefined, contextComesBack: undefined, repeat: runs },
    "program",
  );
  Atomics.store(state, 0, 1);
};
