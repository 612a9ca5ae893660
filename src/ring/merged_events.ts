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

/** Buffers (`RingBuf` or `PerfBuffer`) by the names that identify their events. */
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
 * Consumes several ring buffers and perf buffers together: one loop gets the events of all, each with the name of its buffer.
 *
 * Events of one buffer keep their order. The kernel keeps no order between buffers: they take turns, so that a busy one does not
 * block the others. To sort by a time that programs record, collect events for as long as they may be late.
 *
 * A consumer of this object is the consumer of each buffer. If a buffer is disposed of meanwhile, the others go on; the consumer
 * ends with the last one. An error, such as a record that is too short, ends it for all.
 *
 * For one callback per buffer, subscribe to each buffer: all wait on the same event loop.
 *
 * @throws {TypeError} for a value that is not a buffer, or without buffers
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
  /** The index of the buffer that the next consumer begins with, so that consumers of few events are fair, too. */
  #first = 0;

  constructor(buffers: Buffers) {
    this.#buffers = Object.entries(buffers).map(([name, buffer]) => {
      if (buffer instanceof EventBuffer) return [name, buffer];
      throw new TypeError(`${name}: expected a RingBuf or a PerfBuffer, got ${describe(buffer)}`);
    });
    if (this.#buffers.length === 0) {
      throw new TypeError("MergedEvents: expected at least one buffer");
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

/** One of the merged buffers. */
interface Part {
  /** Its name. */
  readonly from: string;
  readonly source: RecordSource<unknown>;
}

/** The buffers of {@link MergedEvents} as one, for one consumer. */
class MergedSource<E> extends RecordSource<E> {
  /** The buffers that are claimed by this. */
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

  /** Removes a buffer that was disposed of. */
  #drop(part: Part): void {
    this.#claimed.delete(part);
    part.source.free();
    this.#reader.remove(part.source.reader);
    this.#watches.get(part)?.[Symbol.dispose]();
    this.#watches.delete(part);
    if (this.#claimed.size === 0) this.consumer?.end();
  }

  /** Keeps the process alive as long as one of the buffers does. */
  #keepAlive(): void {
    this.keepAlive(Array.from(this.#claimed).some(({ source }) => source.isReferenced));
  }

  get #stats(): ConsumerStats {
    const { wakeups, polls, batches, largestBatch } = this;
    const { readers, parts, totals, backlog } = this.#reader;
    // Programs count the records that ring buffers lose.
    const lost = readers.reduce(
      (sum, one) => sum + (parts.get(one)?.source.map.stats.lost ?? 0),
      0,
    );
    return { ...totals, lost, wakeups, polls, batches, largestBatch, backlog };
  }
}

/** The buffers as one map: their name, and the wait for all of them. */
class MergedMap implements ConsumedMap {
  /** An id that is not one of the kernel: each buffer is claimed by its own id. */
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

  /** Returns the name of the buffer of the current record. */
  toString(): string {
    return `${this.#reader.part.source.map}`;
  }
}

/** Reads the event of the buffer whose turn it is, by the size of that buffer's type. */
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
   * Bytes of the smallest buffer, which is full first. Decisions by this size assume that all events come from that buffer.
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

  /** The buffer of the current record. */
  get part(): Part {
    return this.parts.get(this.current ?? (this.readers[0] as RecordReader)) as Part;
  }

  /** Counts of all buffers, including removed ones. */
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
      // The next turn is kept, as a consumer drains a few events at a time.
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

  /** Does nothing: the buffers own the readers. */
  [Symbol.dispose](): void {}
}
