// A Worker that makes calls fail, and tells how many times errno was not this call's.
import { wrongErrnos } from "../failing_calls.ts";

declare const self: Worker;

self.onmessage = ({ data }: MessageEvent<{ fd: number; calls: number }>) => {
  self.postMessage(wrongErrnos(data.fd, data.calls));
};
self.postMessage("ready");
