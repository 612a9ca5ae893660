// Writes to a ring, at full speed or so many events per second, for some seconds:
//   bun bench/children/producer.ts --ring ID --state ID --cpu N --seconds N [--rate N]
// Both sides of a comparison have this one producer. It counts in the state's map and says on stdout how long it took.
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

/** Runs in one call of the kernel: a millisecond or so. */
const runsAtOnce = 20_000;
/** At a rate, this often. */
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
  while (Bun.nanoseconds() - start < duration) runMany(program, runsAtOnce);
}

function runs(): number {
  const { written, lost } = readState(state);
  return written + lost;
}

/** What a late tick missed is made up for, but at no more than twice the rate: a burst would fill the ring whatever reads it. */
function pace(rate: number): void {
  const before = runs();
  const perTick = Math.ceil((rate * tickMicroseconds) / 1e6);
  const most = perTick === 1 ? 1 : 2 * perTick;
  for (let tick = 1; ; tick++) {
    const elapsed = Bun.nanoseconds() - start;
    if (elapsed >= duration) return;
    const due = Math.floor((rate * elapsed) / 1e9) - (runs() - before);
    if (due > 0) runMany(program, Math.min(due, most));
    const next = tick * tickMicroseconds - (Bun.nanoseconds() - start) / 1000;
    if (next > 0) sleepMicroseconds(Math.round(next));
  }
}
