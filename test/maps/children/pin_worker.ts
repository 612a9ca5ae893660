/** Creates a pinned map for each path it is sent, together with the other workers, and answers with the map's id. */
import { HashMap, t } from "../../../src/index.ts";

declare const self: Worker;

self.onmessage = ({ data }: MessageEvent<{ path: string; gate: Int32Array; workers: number }>) => {
  const { path, gate, workers } = data;
  Atomics.add(gate, 0, 1);
  // All at once: the last to arrive lets everybody go.
  while (Atomics.load(gate, 0) < workers);
  try {
    const map = new HashMap({ key: t.u32, value: t.u32, maxEntries: 1, pin: path });
    const { id } = map;
    // Before the answer, after which this thread may be ended at any time.
    map[Symbol.dispose]();
    self.postMessage(id);
  } catch (error) {
    self.postMessage(String(error));
  }
};
