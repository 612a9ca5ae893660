/** @module A Worker that opens a map whose perf events belong to an object of another thread. */
import { PerfBuffer, t } from "../../../src/index.ts";

declare const self: Worker;

/** A request to the Worker: open a map by its id, drain it, or close it. */
export type TakeoverOrder = { readonly open: number } | "drain" | "close";
/** The answer of the Worker: done, or the events. */
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
