/**
 * Time to read a record from a full ring, compared with C and libbpf.
 *
 *   bun bench/ring_drain.ts
 *
 * A program fills a ring with records, then one thread drains it. Only the drain is timed. In C (`ring_buffer__consume`) and
 * with `drainRaw`, a callback adds up lengths. The other methods read three fields of each record, two of them with 64 bits,
 * and are compared with C's figure for records of the same size. The callbacks here keep no object, so the engine need not
 * allocate objects, except those in arrays.
 *
 * On a shared virtual machine a figure varies by a third with the load of other machines. Both sides of a ratio vary together:
 * therefore C is measured before and after each method, each round has a ratio, and the result is the median of the rounds.
 * Each method has a separate ring, because the engine compiles the drain loop of a ring for the callbacks that it has called.
 * The first drains, during the compilation, are not counted. C reads the same ring, because memory in the caches of the
 * processor is read in a third of the time. For the same reason, uncounted drains precede the measurement after another ring
 * was used.
 */
import { type Program, RingBuf, type t } from "../src/index.ts";
import type { Peer } from "./peer.ts";
import { type Options, run } from "./support/benchmark.ts";
import { Child } from "./support/children.ts";
import { progress } from "./support/progress.ts";
import type { Figure, Report, Target } from "./support/report.ts";
import { filledEvent, filler, headerSize, runMany } from "./support/ring_programs.ts";
import { median, medianRatio } from "./support/statistics.ts";

/** The number of consecutive drains in a round, on each side. Their median counts. */
const drainsPerRound = 11;
/** The record size with which all methods are measured. */
const commonSize = 64;
const sizes = [16, commonSize, 256, 2048];

const numbers = {
  records: { help: "records in a full ring", standard: 100_000, quick: 100_000 },
  rounds: { help: "alternating rounds", standard: 9, quick: 3 },
  "warm-up": { help: "drains that are not counted", standard: 40, quick: 30 },
};
type Names = keyof typeof numbers;

type Event = t.Infer<typeof filledEvent>;

/** A method of reading records. */
interface Method {
  readonly name: string;
  readonly target: Target;
  /** Reads all records of the ring. Returns a promise if that takes turns of the event loop. */
  drain(ring: RingBuf<t.Type<Event>>, records: number): unknown;
}

let sum = 0;

const raw: Method = {
  name: "drainRaw",
  target: { of: "ratio", atMost: 1.25 },
  drain(ring) {
    ring.drainRaw(addLength);
  },
};

const methods: readonly Method[] = [
  raw,
  {
    name: "drain in place, three fields",
    target: { of: "ratio", atMost: 2 },
    drain(ring) {
      ring.drain(addInPlace, { inPlace: true });
    },
  },
  {
    name: "drain, objects",
    target: { of: "ratio", atMost: 3 },
    drain(ring) {
      ring.drain(addObject);
    },
  },
  {
    name: "batches, arrays of objects",
    target: { of: "ratio", atMost: 30 },
    async drain(ring, records) {
      let left = records;
      for await (const batch of ring.batches()) {
        for (const { first, second, third } of batch) sum += first + second + third;
        if ((left -= batch.length) === 0) break;
      }
    },
  },
  {
    name: "for await",
    target: { of: "ratio", atMost: 30 },
    async drain(ring, records) {
      let left = records;
      for await (const { first, second, third } of ring) {
        sum += first + second + third;
        if (--left === 0) break;
      }
    },
  },
];

// One function per method: a callback that gets both decoded events and events in place would be optimized for neither.
function addLength(_view: DataView, _offset: number, length: number): void {
  sum += length;
}
function addInPlace(event: Event): void {
  sum += event.first + event.second + event.third;
}
function addObject(event: Event): void {
  sum += event.first + event.second + event.third;
}

/** A ring that is filled and drained repeatedly, in Bun and in C, and timed. */
class FilledRing implements AsyncDisposable {
  readonly #ring: RingBuf<t.Type<Event>>;
  readonly #program: Program;
  readonly #records: number;
  /** Bytes of a record in the ring, with its header. Sizes are multiples of 8. */
  readonly #recordBytes: number;
  readonly #method: Method;
  readonly #peer: Child | undefined;

  constructor(method: Method, size: number, records: number, peer: Peer | undefined) {
    this.#method = method;
    this.#records = records;
    this.#recordBytes = size + headerSize;
    const bytes = 2 ** Math.ceil(Math.log2(records * this.#recordBytes + 1));
    this.#ring = new RingBuf({ size: bytes, event: filledEvent });
    this.#program = filler(this.#ring, size);
    if (peer === undefined) return;
    const ids = [this.#ring.id, this.#program.info().id];
    this.#peer = new Child([peer.program, "drain", ...ids.map(String), `${records}`]);
  }

  /**
   * Fills the ring. A signal can cause more runs. The records are then drained by the same code, because other code would be
   * compiled separately, and the ring is filled again.
   */
  async #fill(): Promise<void> {
    for (;;) {
      runMany(this.#program, this.#records);
      const filled = this.#ring.backlog / this.#recordBytes;
      if (filled === this.#records) return;
      await this.#method.drain(this.#ring, filled);
    }
  }

  /** Drains the full ring `times` times. Returns the nanoseconds per record of each drain. */
  async drain(times: number): Promise<number[]> {
    const all: number[] = [];
    for (let i = 0; i < times; i++) {
      await this.#fill();
      const before = this.#ring.stats.events;
      const start = Bun.nanoseconds();
      const draining = this.#method.drain(this.#ring, this.#records);
      // `await` of a value that is not a promise would take a turn, too.
      if (draining instanceof Promise) await draining;
      all.push((Bun.nanoseconds() - start) / this.#records);
      if (this.#ring.stats.events - before !== this.#records) throw new Error("not all was read");
    }
    return all;
  }

  /** Drains the full ring `times` times in C. Returns the median of the nanoseconds per record; NaN without a peer. */
  async drainInC(times: number): Promise<number> {
    this.#peer?.send(`${times}`);
    return Number(await this.#peer?.line());
  }

  /** Drains the ring on both sides until further drains are not faster. */
  async warmUp(drains: number): Promise<void> {
    // The first line of the C program is "ready".
    await this.#peer?.line();
    await this.drainInC(drains);
    await this.drain(drains);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#peer?.end();
    this.#program[Symbol.dispose]();
    this.#ring[Symbol.dispose]();
  }
}

/** Measures methods for records of one size, in turn. */
async function measureSize(
  size: number,
  tested: readonly Method[],
  { records, rounds, "warm-up": warmUp }: Options<Names>,
  peer: Peer | undefined,
): Promise<Figure[]> {
  await using stack = new AsyncDisposableStack();
  const series = tested.map((method) => {
    const ring = stack.use(new FilledRing(method, size, records, peer));
    return { method, ring, here: [] as number[], there: [] as number[] };
  });
  for (const { method, ring } of series) {
    progress(`${size} bytes, ${method.name}: warming up`);
    await ring.warmUp(warmUp);
  }
  for (let round = 0; round < rounds; round++) {
    progress(`${size} bytes: round ${round + 1} of ${rounds}`);
    for (const { ring, here, there } of series) {
      // Loads the memory of this ring into the caches again, from which the other rings have evicted it.
      await ring.drainInC(drainsPerRound);
      const before = await ring.drainInC(drainsPerRound);
      here.push(median(await ring.drain(drainsPerRound)));
      const after = await ring.drainInC(drainsPerRound);
      there.push((before + after) / 2);
    }
  }
  return series.map(({ method, here, there }) => ({
    what: `${size} bytes, ${method.name}`,
    unit: "ns",
    here: median(here),
    there: median(there),
    ratio: medianRatio(here, there),
    target: method.target,
  }));
}

async function measure(options: Options<Names>, peer: Peer | undefined): Promise<Report> {
  const figures: Figure[] = [];
  for (const size of sizes) {
    figures.push(
      ...(await measureSize(size, size === commonSize ? methods : [raw], options, peer)),
    );
  }
  if (sum < 0) throw new Error("nothing was read");
  return {
    name: "drain",
    title: `drain of a ring with ${options.records} records: time per record, medians of ${options.rounds} rounds`,
    figures,
  };
}

await run({
  usage:
    "Time to read records from a full ring, compared with C: bun bench/ring_drain.ts [options]",
  numbers,
  measure,
  peer: "ring",
});
