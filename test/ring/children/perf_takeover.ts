/** @module A Worker that opens a map whose perf events another thread's object put there. */
import { PerfBuffer, t } from "../../../src/index.ts";

declare const self: Worker;

/** What it is told: to open a map by its id, to drain it, to close it. */
export type TakeoverOrder = { readonly open: number } | "drain" | "close";
/** What it answers: that it did, or the events. */
export type TakeoverAnswer = number[];

let buffer: PerfBuffer<t.Type<number>> | undefined;

self.onmessage = ({ data }: MessageEvent<TakeoverOrder>) => {
  if (data === "close") {
    buffer?.[Symbol.dispose]();
    process.exit();
  } else if (data === "drain") {
    const events: number[] = [];
    buffer?.drain((event) => void events.push(event));
    self.postMessage(events);
  } else {
    buffer = PerfBuffer.fromId(data.open, { event: t.u32, size: 4096 });
    self.postMessage([]);
  }
};
