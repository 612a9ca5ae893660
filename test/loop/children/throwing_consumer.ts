/** @module Wakes six watches at the same time, twice. The first time half of them throw. */
import { watch } from "../../../src/loop/event_loop.ts";
import { Signal } from "../bridges.ts";

process.on("uncaughtException", (error) => console.log(`uncaught: ${error.message}`));

const signals = Array.from({ length: 6 }, () => new Signal());
const woken: number[] = [];
let isFirst = true;
const watches = signals.map((signal, index) =>
  watch(
    () => signal.fd,
    () => {
      if (isFirst && index % 2 === 0) throw new Error(`error of ${index}`);
      if (index % 2 === 1) woken.push(index);
    },
  ),
);
for (const watched of watches) watched.arm();
for (const signal of signals) signal.raise();
await Bun.sleep(50);
console.log(`woken: ${woken.splice(0).join(" ")}`);
isFirst = false;
for (const watched of watches) watched.arm();
await Bun.sleep(50);
console.log(`again: ${woken.join(" ")}`);
for (const watched of watches) watched[Symbol.dispose]();
