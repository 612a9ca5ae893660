/** @module Arms and disarms a watch, which keeps the process alive only while it is armed. */
import { watch } from "../../../src/loop/event_loop.ts";
import { Signal } from "../bridges.ts";

const signal = new Signal();
const watched = watch(
  () => signal.fd,
  () => console.log("ready"),
);
watched.arm();
// Only the wait keeps the process alive until this timer fires.
setTimeout(() => signal.raise(), 100).unref();
process.on("exit", () => console.log("exit"));
