import { checkCount, checkOptions } from "../check/arguments.ts";
import { describe, type InspectArguments, inspectCustom, show } from "../check/describe.ts";
import type { Watch } from "../loop/event_loop.ts";
import type { Type } from "../types/type.ts";
import {
  type ConsumedMap,
  type ConsumerKind,
  type ConsumerStats,
  RecordSource,
} from "./consumer.ts";
import {
  type DrainCode,
  type DrainEnd,
  type RawRecordCallback,
  sharedDrainCode,
} from "./drain_code.ts";
import { checkCallback, EventBuffer } from "./event_buffer.ts";
import { PullIterator, takeArrays, takeEvents } from "./iterators.ts";
import type { ReaderTotals, RecordReader } from "./reader.ts";
import {
  type BatchesOfEventsOptions,
  consumeSettings,
  type EventsOptions,
  type RawDrainOptions,
  type RawSubscribeOptions,
} from "./ring_options.ts";
import { CallbackConsumer, type Subscription } from "./subscription.ts";
import { ReadersInTurn } from "./turns.ts";

const eventsInBatch = 1024;

/** Buffers by the names that their events are told apart by: `RingBuf` or `PerfBuffer`. */
export type BuffersByName = Readonly<
  Record<string, Pick<EventBuffer<unknown>, "drain" | "peek" | "stats">>
>;

/** An event of one of several buffers, with the name of that buffer: a discriminated union. */
export type MergedEvent<Buffers extends BuffersByName> = {
  [Name in keyof Buffers & string]: Buffers[Name] extends Pick<EventBuffer<infer E>, "peek">
    ? { readonly from: Name; readonly event: E }
    : never;
}[keyof Buffers & string];

/**
 * Several buffers with one consumer: ring buffers, perf buffers, or both. One loop gets the events of all of them, each with
 * the name of its buffer.
 *
 * The events of one buffer come in their order; those of different buffers in any, as the kernel keeps none between them: the
 * buffers take turns, so that a busy one keeps no other from being read. To sort by a time that the programs record, collect
 * events for as long as they may be late.
 *
 * While this has a consumer, it is the consumer of each of the buffers. A buffer that is disposed of meanwhile drops out, and the
 * others go on; after the last one the consumer ends. An error (of a record that is too short, say) ends it for all.
 *
 * For a callback per buffer, subscribe to each by itself: all wait on the same event loop.
 *
 * @throws {TypeError} for what is not a buffer, or where there is none
 *
 * @example
 * ```ts
 * import { MergedEvents, RingBuf, t } from "bun-bpf";
 * using execs = new RingBuf({ size: 4096, event: t.struct({ pid: t.u32, name: t.cstring(16) }) });
 * using exits = new RingBuf({ size: 4096, event: t.struct({ pid: t.u32, code: t.i32 }) });
 * setTimeout(() => (execs[Symbol.dispose](), exits[Symbol.dispose]()), 10);
 * for await (const { from, event } of new MergedEvents({ execs, exits })) {
 *   if (from === "execs") console.log(`${event.pid} is ${event.name}`);
 *   else console.log(`${event.pid} has ended with ${event.code}`);
 * }
 * ```
 */
export class MergedEvents<Buffers extends BuffersByName> implements AsyncIterable<
  MergedEvent<Buffers>
> {
  readonly #buffers: readonly (readonly [name: string, buffer: EventBuffer<unknown>])[];
  /** The index of the buffer that the next consumer begins with: consumers that take few events are fair, too. */
  #first = 0;

  constructor(buffers: Buffers) {
    this.#buffers = Object.entries(buffers).map(([name, buffer]) => {
      if (buffer instanceof EventBuffer) return [name, buffer];
      throw new TypeError(`${name}: expected a RingBuf or a PerfBuffer, got ${describe(buffer)}`);
    });
    if (this.#buffers.length === 0) {
      throw new TypeError("MergedEvents: expected one buffer at least");
    }
  }

  /** @internal Shows its buffers in `console.log`. */
  [inspectCustom](...inspection: InspectArguments): string {
    return show("MergedEvents", Object.fromEntries(this.#buffers), inspection);
  }

  /**
   * Calls `fn` with each event that is there now, and returns their number.
   *
   * @throws {Error} as {@link EventBuffer.drain}
   *
   * @example
   * ```ts
   * import { MergedEvents, RingBuf, t } from "bun-bpf";
   * using high = new RingBuf({ size: 4096, event: t.u64 });
   * using low = new RingBuf({ size: 4096, event: t.u64 });
   * console.log(new MergedEvents({ high, low }).drain(({ from, event }) => console.log(from, event))); // 0
   * ```
   */
  drain(fn: (event: MergedEvent<Buffers>) => void, options: RawDrainOptions = {}): number {
    checkOptions("drain", options, ["limit"]);
    checkCallback("drain", fn);
    const source = this.#source();
    return source.drain(source.callback(fn), options.limit);
  }

  /** Returns the events as they come, one by one, as {@link EventBuffer.events} does. @throws as that does */
  events(options: EventsOptions = {}): AsyncIterableIterator<MergedEvent<Buffers>> {
    const settings = consumeSettings("events", options, []);
    const source = this.#source();
    return new PullIterator(source, "iteration", settings, takeEvents(source));
  }

  /** The same as {@link events} without options. */
  [Symbol.asyncIterator](): AsyncIterableIterator<MergedEvent<Buffers>> {
    return this.events();
  }

  /** Returns the events as they come, in arrays of at most `max`, as {@link EventBuffer.batches} does. @throws as that does */
  batches(
    options: Omit<BatchesOfEventsOptions, "inPlace"> = {},
  ): AsyncIterableIterator<MergedEvent<Buffers>[]> {
    const settings = consumeSettings("batches", options, ["max"]);
    const { max = eventsInBatch } = options;
    checkCount("max", max, 1);
    const source = this.#source();
    return new PullIterator(
      source,
      "iteration",
      settings,
      takeArrays(source, () => max),
    );
  }

  /** Calls `fn` with each event as it comes, as {@link EventBuffer.subscribe} does. @throws as that does */
  subscribe(
    fn: (event: MergedEvent<Buffers>) => void,
    options: RawSubscribeOptions = {},
  ): Subscription {
    checkCallback("subscribe", fn);
    const settings = consumeSettings("subscribe", options, ["budget"]);
    const { budget } = options;
    if (budget !== undefined) checkCount("budget", budget, 1);
    const source = this.#source();
    return new CallbackConsumer(source, settings, () => source.callback(fn), undefined, budget);
  }

  /** @throws {DisposedError} when one of the buffers is disposed of */
  #source(): RecordSource<MergedEvent<Buffers>> {
    const parts = this.#buffers.map(([from, { source }]) => ({ from, source }));
    const first = this.#first++ % parts.length;
    return new MergedSource([...parts.slice(first), ...parts.slice(0, first)]);
  }
}

/** A buffer among several. */
interface Part {
  /** Its name. */
  readonly from: string;
  readonly source: RecordSource<unknown>;
}

/** The buffers of {@link MergedEvents} as one, for one consumer. */
class MergedSource<E> extends RecordSource<E> {
  /** Those that have this as their consumer. */
  readonly #claimed = new Set<Part>();
  readonly #watches: Map<Part, Watch>;
  readonly #reader: MergedReader;

  constructor(parts: readonly Part[]) {
    const reader = new MergedReader(parts);
    const watches = new Map<Part, Watch>();
    super(new MergedMap(reader, watches, () => this.#stats), mergedType(reader), reader);
    this.#reader = reader;
    this.#watches = watches;
    this.isReferenced = parts.some(({ source }) => source.isReferenced);
  }

  override claim(kind: ConsumerKind): void {
    try {
      for (const part of this.#reader.parts.values()) {
        part.source.claim(kind);
        this.#claimed.add(part);
        part.source.consumer = {
          look: () => this.consumer?.look() ?? 0,
          end: () => this.#drop(part),
          keepAlive: () => this.#keepAlive(),
        };
      }
    } catch (error) {
      this.free();
      throw error;
    }
  }

  override free(): void {
    super.free();
    for (const { source } of this.#claimed) source.free();
    this.#claimed.clear();
  }

  /** Goes on without a buffer that was disposed of. */
  #drop(part: Part): void {
    this.#claimed.delete(part);
    part.source.free();
    this.#reader.remove(part.source.reader);
    this.#watches.get(part)?.[Symbol.dispose]();
    this.#watches.delete(part);
    if (this.#claimed.size === 0) this.consumer?.end();
  }

  /** Keeps the process alive for as long as one of the buffers is to. */
  #keepAlive(): void {
    this.keepAlive(Array.from(this.#claimed).some(({ source }) => source.isReferenced));
  }

  get #stats(): ConsumerStats {
    const { wakeups, polls, batches, largestBatch } = this;
    const { readers, parts, totals, backlog } = this.#reader;
    // Programs count what rings lose.
    const lost = readers.reduce(
      (sum, one) => sum + (parts.get(one)?.source.map.stats.lost ?? 0),
      0,
    );
    return { ...totals, lost, wakeups, polls, batches, largestBatch, backlog };
  }
}

/** The buffers as one map: what they are called, and the wait for all of them. */
class MergedMap implements ConsumedMap {
  /** None of the kernel's ids: each buffer is claimed by its own. */
  readonly id = 0;
  readonly #reader: MergedReader;
  readonly #watches: Map<Part, Watch>;
  readonly #stats: () => ConsumerStats;

  constructor(reader: MergedReader, watches: Map<Part, Watch>, stats: () => ConsumerStats) {
    this.#reader = reader;
    this.#watches = watches;
    this.#stats = stats;
  }

  get stats(): ConsumerStats {
    return this.#stats();
  }

  watch(onReady: () => void): Watch {
    const watches = this.#watches;
    const dispose = (): void => {
      for (const one of watches.values()) one[Symbol.dispose]();
      watches.clear();
    };
    try {
      for (const part of this.#reader.parts.values()) {
        watches.set(part, part.source.map.watch(onReady));
      }
    } catch (error) {
      dispose();
      throw error;
    }
    return {
      arm: () => watches.forEach((one) => one.arm()),
      disarm: () => watches.forEach((one) => one.disarm()),
      keepAlive: (alive) => watches.forEach((one) => one.keepAlive(alive)),
      [Symbol.dispose]: dispose,
    };
  }

  /** Names the buffer whose record is looked at. */
  toString(): string {
    return `${this.#reader.part.source.map}`;
  }
}

/** Reads the event of whichever buffer's turn it is, as long as that one's type says. */
function mergedType<E>(reader: MergedReader): Type<E> {
  return {
    kind: "merged",
    get name() {
      return reader.part.source.type.name;
    },
    get size() {
      return reader.part.source.type.size;
    },
    get align() {
      return reader.part.source.type.align;
    },
    read: (view, offset) => {
      const { from, source } = reader.part;
      return { from, event: source.type.read(view, offset) } as E;
    },
    write: (view, offset, { event }: E & { readonly event: unknown }) =>
      reader.part.source.type.write(view, offset, event),
  };
}

/** The readers of several buffers as one. */
class MergedReader extends ReadersInTurn<RecordReader> implements RecordReader {
  readonly parts: ReadonlyMap<RecordReader, Part>;
  /**
   * Bytes of the smallest buffer: that is what can be full. What is decided by it is decided as if all came from that one.
   */
  readonly byteLength: number;
  readonly code: DrainCode = sharedDrainCode;
  #isDraining = false;
  #stopped = false;

  constructor(parts: readonly Part[]) {
    super(parts.map(({ source }) => source.reader));
    this.parts = new Map(parts.map((part) => [part.source.reader, part]));
    this.byteLength = Math.min(...this.readers.map(({ byteLength }) => byteLength));
  }

  /** The buffer whose record is looked at. */
  get part(): Part {
    return this.parts.get(this.current ?? (this.readers[0] as RecordReader)) as Part;
  }

  /** Counts of all buffers, also of those that were removed. */
  get totals(): ReaderTotals {
    const sum = { events: 0, bytes: 0, discarded: 0, lost: 0, overwrittenBytes: 0 };
    for (const { totals } of this.parts.keys()) {
      for (const name in sum) sum[name as keyof ReaderTotals] += totals[name as keyof ReaderTotals];
    }
    return sum;
  }

  get backlog(): number {
    return this.readers.reduce((sum, { backlog }) => sum + backlog, 0);
  }

  get isCorrupt(): boolean {
    return this.readers.some(({ isCorrupt }) => isCorrupt);
  }

  get isDraining(): boolean {
    return this.#isDraining || this.readers.some(({ isDraining }) => isDraining);
  }

  drain(fn: RawRecordCallback, limit: number): number {
    this.#isDraining = true;
    this.#stopped = false;
    // Also where a callback throws.
    this.end = "limit";
    let end: DrainEnd = "empty";
    let count = 0;
    try {
      // Whose turn is next is remembered: a consumer drains a few events at a time.
      for (let turns = this.readers.length; turns > 0 && this.readers.length > 0; turns--) {
        if (count >= limit) return count;
        const reader = (this.current = this.takeTurn());
        count += reader.drain(fn, limit - count);
        if (this.#stopped) return count;
        if (end !== "limit" && reader.end !== "empty") end = reader.end;
      }
    } finally {
      this.#isDraining = false;
    }
    this.end = end;
    return count;
  }

  interrupt(): void {
    this.#stopped = true;
    this.current?.interrupt();
  }

  /** Leaves the readers to the buffers, which own them. */
  [Symbol.dispose](): void {}
}
