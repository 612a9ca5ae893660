/** @module A watch keeps the process alive while it is armed, and not otherwise. */
import { watch } from "../../../src/loop/event_loop.ts";
import { Signal } from "../bridges.ts";

const signal = new Signal();
const watched = watch(
  () => signal.fd,
  () => console.log("ready"),
);
watched.arm();
// Nothing but the wait keeps the process alive until this fires.
setTimeout(() => signal.raise(), 100).unref();
process.on("exit", () => console.log("exit"));
