/** Worker that alternately stores two integers in a mapped array until the stop flag is set. */
import { ArrayMap, t } from "../../../src/index.ts";

declare const self: Worker;

self.onmessage = ({ data }: MessageEvent<{ fd: number; state: Int32Array }>) => {
  const { fd, state } = data;
  {
    using map = ArrayMap.fromFd(fd, { value: t.u32 });
    const cells = new Int32Array(map.view.buffer);
    for (let number = 0; Atomics.load(state, 1) === 0; number = ~number) {
      for (let cell = 0; cell < 128; cell++) Atomics.store(cells, cell, number);
      Atomics.store(state, 0, 1);
    }
  }
  self.postMessage("done");
};
