// Consumes a ring until SIGTERM, checks the sequence numbers, counts ticks of a timer and runs an HTTP server:
//   bun bench/children/flood_consumer.ts --ring ID --cpu N --method in-place|raw
// It prints the port of the server, and after SIGTERM the counts as JSON. SIGUSR2 restarts the count of ticks.
import { parseArgs } from "node:util";
import { RingBuf } from "../../src/index.ts";
import { endWithParent, pinProcess } from "../support/libc.ts";
import { sequencedEvent } from "../support/ring_programs.ts";

const tickMilliseconds = 10;

const { values } = parseArgs({
  options: { ring: { type: "string" }, cpu: { type: "string" }, method: { type: "string" } },
});
endWithParent();
pinProcess(Number(values.cpu));

let events = 0;
let gaps = 0;
let next = 0;

function count(sequence: number): void {
  if (sequence !== next) gaps++;
  next = sequence + 1;
  events++;
}

const ring = RingBuf.fromId(Number(values.ring), { event: sequencedEvent });
const subscription =
  values.method === "raw"
    ? ring.subscribeRaw((view, offset) => {
        const high = view.getUint32(offset + 4, true);
        count(high * 0x1_0000_0000 + view.getUint32(offset, true));
      })
    : ring.subscribe((event) => count(event.sequence), { inPlace: true });

const server = Bun.serve({ port: 0, hostname: "127.0.0.1", fetch: () => new Response("here") });

let ticks = 0;
let since = performance.now();
setInterval(() => ticks++, tickMilliseconds);

process.on("SIGUSR2", () => {
  ticks = 0;
  since = performance.now();
});
process.on("SIGTERM", () => {
  const tickShare = ticks / ((performance.now() - since) / tickMilliseconds);
  const { wakeups, polls, largestBatch } = subscription.stats;
  console.log(JSON.stringify({ events, gaps, tickShare, wakeups, polls, largestBatch }));
  ring[Symbol.dispose]();
  process.exit(0);
});
console.log(`${server.port}`);
