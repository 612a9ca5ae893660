// Consumes a ring until so many events have come, and says how much memory the process has:
//   bun bench/children/memory_consumer.ts --ring ID --cpu N --how raw|in-place|objects --first N --events N
// The first line on stdout says that it waits; the second is the resident memory in bytes, after the first N and after all.
import { parseArgs } from "node:util";
import { RingBuf } from "../../src/index.ts";
import { endWithParent, pinProcess } from "../support/libc.ts";
import { residentMemory } from "../support/process_status.ts";
import { sequencedEvent } from "../support/ring_programs.ts";

const { values } = parseArgs({
  options: {
    ring: { type: "string" },
    cpu: { type: "string" },
    how: { type: "string" },
    first: { type: "string" },
    events: { type: "string" },
  },
});
endWithParent();
pinProcess(Number(values.cpu));
const lookMilliseconds = 10;
const first = Number(values.first);
const all = Number(values.events);

let sum = 0;
const ring = RingBuf.fromId(Number(values.ring), { event: sequencedEvent });
const subscription =
  values.how === "raw"
    ? ring.subscribeRaw((view, offset) => {
        sum += view.getUint32(offset, true);
      })
    : ring.subscribe(({ sequence, time }) => (sum += sequence + time), {
        inPlace: values.how === "in-place",
      });

let afterFirst: number | undefined;
// Between two looks come some hundred thousand events: it is the end of the series that matters.
const timer = setInterval(() => {
  const { events } = subscription.stats;
  if (events >= first) afterFirst ??= residentMemory("self");
  if (events < all) return;
  console.log(JSON.stringify({ afterFirst, afterAll: residentMemory("self"), events }));
  clearInterval(timer);
  ring[Symbol.dispose]();
}, lookMilliseconds);
process.on("exit", () => {
  if (sum < 0) console.error("nothing was read");
});
console.log("ready");
