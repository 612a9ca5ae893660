// A Worker that makes calls fail, and posts the number of wrong errnos.
import { wrongErrnos } from "../failing_calls.ts";

declare const self: Worker;

self.onmessage = ({ data }: MessageEvent<{ fd: number; calls: number }>) => {
  self.postMessage(wrongErrnos(data.fd, data.calls));
};
self.postMessage("ready");
