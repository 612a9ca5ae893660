// A Worker that changes an array map through a duplicated descriptor, a given time after a message.
import { ArrayMap, t } from "../../../src/index.ts";

declare const self: Worker;

self.onmessage = ({ data }: MessageEvent<{ fd: number; delay: number }>) => {
  {
    using map = ArrayMap.fromFd(data.fd, { value: t.u32 });
    Bun.sleepSync(data.delay);
    map.set(1, 77);
  }
  self.postMessage("done");
};
self.postMessage("ready");
