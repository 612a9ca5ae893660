// Writes to a ring for a number of seconds, at full speed or at a rate in events per second:
//   bun bench/children/producer.ts --ring ID --state ID --cpu N --seconds N [--rate N]
// Both sides of a comparison use this producer. It counts events in the state map, and prints its run time as JSON.
import { parseArgs } from "node:util";
import { ArrayMap, RingBuf } from "../../src/index.ts";
import { endWithParent, pinProcess, sleepMicroseconds } from "../support/libc.ts";
import {
  readState,
  runMany,
  sequencedEvent,
  sequencer,
  sequencerState,
} from "../support/ring_programs.ts";

/** The number of runs of the program per system call, which takes about a millisecond. */
const runsPerCall = 20_000;
/** The time between two batches of events at a rate. */
const tickMicroseconds = 1000;

const { values } = parseArgs({
  options: {
    ring: { type: "string" },
    state: { type: "string" },
    cpu: { type: "string" },
    seconds: { type: "string" },
    rate: { type: "string" },
  },
});
endWithParent();
pinProcess(Number(values.cpu));
using ring = RingBuf.fromId(Number(values.ring), { event: sequencedEvent });
using state = ArrayMap.fromId(Number(values.state), { value: sequencerState });
using program = sequencer(ring, state);
const duration = Number(values.seconds) * 1e9;
const start = Bun.nanoseconds();
if (values.rate === undefined) flood();
else pace(Number(values.rate));
console.log(JSON.stringify({ nanoseconds: Bun.nanoseconds() - start }));

function flood(): void {
  while (Bun.nanoseconds() - start < duration) runMany(program, runsPerCall);
}

function runs(): number {
  const { written, lost } = readState(state);
  return written + lost;
}

/**
 * Writes events at a rate. After a late tick it catches up, but with at most twice the rate: a larger burst would fill the ring
 * before any consumer could read it.
 */
function pace(rate: number): void {
  const before = runs();
  const perTick = Math.ceil((rate * tickMicroseconds) / 1e6);
  const maxPerTick = perTick === 1 ? 1 : 2 * perTick;
  for (let tick = 1; ; tick++) {
    const elapsed = Bun.nanoseconds() - start;
    if (elapsed >= duration) return;
    const due = Math.floor((rate * elapsed) / 1e9) - (runs() - before);
    if (due > 0) runMany(program, Math.min(due, maxPerTick));
    const next = tick * tickMicroseconds - (Bun.nanoseconds() - start) / 1000;
    if (next > 0) sleepMicroseconds(Math.round(next));
  }
}
