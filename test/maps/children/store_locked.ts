/** Worker that stores values with equal fields in an array with a spin lock until the stop flag is set. */
import { ArrayMap, t } from "../../../src/index.ts";

declare const self: Worker;

self.onmessage = ({ data }: MessageEvent<{ fd: number; state: Int32Array }>) => {
  const { fd, state } = data;
  const value = t.struct({ lock: t.spinLock, copies: t.array(t.u64Number, 64) });
  {
    using map = ArrayMap.fromFd(fd, { value });
    for (let number = 1; Atomics.load(state, 1) === 0; number++) {
      map.set(0, { copies: new Array<number>(64).fill(number) });
      Atomics.store(state, 0, 1);
    }
  }
  self.postMessage("done");
};
