/** Worker that creates a pinned map for each path, at the same time as other workers, and posts the id of the map. */
import { HashMap, t } from "../../../src/index.ts";

declare const self: Worker;

self.onmessage = ({ data }: MessageEvent<{ path: string; gate: Int32Array; workers: number }>) => {
  const { path, gate, workers } = data;
  Atomics.add(gate, 0, 1);
  // A barrier: the last worker to arrive releases all.
  while (Atomics.load(gate, 0) < workers);
  try {
    const map = new HashMap({ key: t.u32, value: t.u32, maxEntries: 1, pin: path });
    const { id } = map;
    // Before the message, after which this thread can be terminated at any time.
    map[Symbol.dispose]();
    self.postMessage(id);
  } catch (error) {
    self.postMessage(String(error));
  }
};
