// Consumes a number of events, and measures the memory of the process:
//   bun bench/children/memory_consumer.ts --ring ID --cpu N --method raw|in-place|objects --first N --events N
// It prints "ready" when it waits, and then as JSON the resident memory in bytes, after the first events and after all.
import { parseArgs } from "node:util";
import { RingBuf } from "../../src/index.ts";
import { endWithParent, pinProcess } from "../support/libc.ts";
import { residentMemory } from "../support/process_status.ts";
import { sequencedEvent } from "../support/ring_programs.ts";

const { values } = parseArgs({
  options: {
    ring: { type: "string" },
    cpu: { type: "string" },
    method: { type: "string" },
    first: { type: "string" },
    events: { type: "string" },
  },
});
endWithParent();
pinProcess(Number(values.cpu));
const checkMilliseconds = 10;
const first = Number(values.first);
const all = Number(values.events);

let sum = 0;
const ring = RingBuf.fromId(Number(values.ring), { event: sequencedEvent });
const subscription =
  values.method === "raw"
    ? ring.subscribeRaw((view, offset) => {
        sum += view.getUint32(offset, true);
      })
    : ring.subscribe(({ sequence, time }) => (sum += sequence + time), {
        inPlace: values.method === "in-place",
      });

let afterFirst: number | undefined;
// Hundreds of thousands of events arrive between two checks. The exact number does not matter in a series of this length.
const timer = setInterval(() => {
  const { events } = subscription.stats;
  if (events >= first) afterFirst ??= residentMemory("self");
  if (events < all) return;
  console.log(JSON.stringify({ afterFirst, afterAll: residentMemory("self"), events }));
  clearInterval(timer);
  ring[Symbol.dispose]();
}, checkMilliseconds);
process.on("exit", () => {
  if (sum < 0) console.error("nothing was read");
});
console.log("ready");
