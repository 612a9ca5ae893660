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
import { PullIterator, arrayItems, eventItems } from "./iterators.ts";
import type { ReaderTotals, RecordReader } from "./reader.ts";
import {
  type BatchesOfEventsOptions,
  consumeSettings,
  type EventsOptions,
  type RawDrainOptions,
  type RawSubscribeOptions,
} from "./ring_options.ts";
import { CallbackConsumer, type Subscription } from "./subscription.ts";
import { RoundRobinReader } from "./turns.ts";

const defaultBatchLength = 1024;

/** Buffers ({@link RingBuf} or {@link PerfBuffer}) by name. The names identify the events of each buffer. */
export type BuffersByName = Readonly<
  Record<string, Pick<EventBuffer<unknown>, "drain" | "peek" | "stats">>
>;

/** An event with the name of its buffer: a union that `from` discriminates. */
export type MergedEvent<Buffers extends BuffersByName> = {
  [Name in keyof Buffers & string]: Buffers[Name] extends Pick<EventBuffer<infer E>, "peek">
    ? { readonly from: Name; readonly event: E }
    : never;
}[keyof Buffers & string];

/**
 * One consumer for several ring buffers and perf buffers: each event comes as `{ from, event }`, with the name of its buffer.
 *
 * Events of one buffer keep their order. Between buffers there is no order: the buffers take turns, so that a busy buffer
 * does not block the others. To order events by a time that programs record, keep each event for the largest delay between
 * buffers, and then deliver the events sorted.
 *
 * A consumer of this object is the consumer of each buffer: no buffer may have another consumer. If a buffer is disposed of
 * meanwhile, the consumer continues with the others, and ends with the last buffer. An error in one buffer, such as a record
 * that is too short, ends an iteration for all buffers. This object owns nothing: dispose of the buffers instead.
 *
 * To have one callback per buffer, use `subscribe` of each buffer instead: all subscriptions wait on the same event loop.
 *
 * @throws {TypeError} if a value is not a buffer, or if there are no buffers.
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
  /**
   * The index of the buffer that the next consumer begins with: consumers of few events would otherwise favour the first
   * buffers.
   */
  #first = 0;

  /** Checks the buffers. A consuming method makes this object their consumer. */
  constructor(buffers: Buffers) {
    this.#buffers = Object.entries(buffers).map(([name, buffer]) => {
      if (buffer instanceof EventBuffer) return [name, buffer];
      throw new TypeError(`${name}: expected a RingBuf or a PerfBuffer, got ${describe(buffer)}`);
    });
    if (this.#buffers.length === 0) {
      throw new TypeError("MergedEvents: expected at least one buffer");
    }
  }

  /** @internal Shows the buffers in `console.log`. */
  [inspectCustom](...inspection: InspectArguments): string {
    return show("MergedEvents", Object.fromEntries(this.#buffers), inspection);
  }

  /**
   * Calls `fn` synchronously with each event that is in one of the buffers now. Returns the number of events.
   *
   * Events that arrive during the call stay. If `fn` throws, the drain ends and throws the same error: the event that `fn` was
   * called with counts as delivered, and the following ones stay in their buffers.
   *
   * @throws {RangeError} if a record is shorter than the event type; it counts as delivered, and the following ones stay.
   * @throws {Error} if a buffer has a consumer already, or its memory is corrupt.
   * @throws {DisposedError} if a buffer is disposed of.
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

  /**
   * Returns an iterator over the events, one by one. It waits, ends and fails like the iterator of
   * {@link EventBuffer.events}.
   *
   * @throws {RangeError} if a record is shorter than the event type; it counts as delivered, and the iteration ends.
   * @throws {Error} if a buffer has a consumer already, or its memory is corrupt.
   * @throws {DisposedError} if a buffer is disposed of.
   *
   * @example
   * ```ts
   * import { MergedEvents, RingBuf, t } from "bun-bpf";
   * using high = new RingBuf({ size: 4096, event: t.u64 });
   * using low = new RingBuf({ size: 4096, event: t.u64 });
   * const merged = new MergedEvents({ high, low });
   * try {
   *   for await (const { from, event } of merged.events({ signal: AbortSignal.timeout(10) })) console.log(from, event);
   * } catch (error) {
   *   console.log((error as Error).name); // TimeoutError
   * }
   * ```
   */
  events(options: EventsOptions = {}): AsyncIterableIterator<MergedEvent<Buffers>> {
    const settings = consumeSettings("events", options, []);
    const source = this.#source();
    return new PullIterator(source, "iteration", settings, eventItems(source));
  }

  /** Returns an iterator over the events, as {@link events} without options does. */
  [Symbol.asyncIterator](): AsyncIterableIterator<MergedEvent<Buffers>> {
    return this.events();
  }

  /**
   * Returns an iterator over arrays of at most `max` events each, in which events of several buffers can be mixed. It waits,
   * ends and fails like the iterator of {@link EventBuffer.batches}.
   *
   * @throws {RangeError} if a record is shorter than the event type; the events before it are returned first, then the
   * iteration ends.
   * @throws {Error} if a buffer has a consumer already, or its memory is corrupt.
   * @throws {DisposedError} if a buffer is disposed of.
   *
   * @example
   * ```ts
   * import { MergedEvents, RingBuf, t } from "bun-bpf";
   * using high = new RingBuf({ size: 4096, event: t.u64 });
   * using low = new RingBuf({ size: 4096, event: t.u64 });
   * setTimeout(() => (high[Symbol.dispose](), low[Symbol.dispose]()), 10);
   * for await (const batch of new MergedEvents({ high, low }).batches({ max: 100 })) {
   *   console.log(batch.filter(({ from }) => from === "high").length);
   * }
   * ```
   */
  batches(
    options: Omit<BatchesOfEventsOptions, "inPlace"> = {},
  ): AsyncIterableIterator<MergedEvent<Buffers>[]> {
    const settings = consumeSettings("batches", options, ["max"]);
    const { max = defaultBatchLength } = options;
    checkCount("max", max, 1);
    const source = this.#source();
    return new PullIterator(
      source,
      "iteration",
      settings,
      arrayItems(source, () => max),
    );
  }

  /**
   * Calls `fn` with each event that arrives, until the returned subscription is disposed of. Exceptions of `fn`, disposal and
   * the signal work as in {@link EventBuffer.subscribe}.
   *
   * @throws {Error} if a buffer has a consumer already.
   * @throws {DisposedError} if a buffer is disposed of.
   *
   * @example
   * ```ts
   * import { MergedEvents, RingBuf, t } from "bun-bpf";
   * using high = new RingBuf({ size: 4096, event: t.u64 });
   * using low = new RingBuf({ size: 4096, event: t.u64 });
   * using subscription = new MergedEvents({ high, low }).subscribe(({ from, event }) => console.log(from, event));
   * console.log(subscription.stats.events); // 0
   * ```
   */
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

  /**
   * Returns a source for one consumer.
   *
   * @throws {DisposedError} if a buffer is disposed of.
   */
  #source(): RecordSource<MergedEvent<Buffers>> {
    const members = this.#buffers.map(([from, { source }]) => ({ from, source }));
    const first = this.#first++ % members.length;
    return new MergedSource([...members.slice(first), ...members.slice(0, first)]);
  }
}

/** One of the merged buffers. */
interface Member {
  /** The name of the buffer. */
  readonly from: string;
  readonly source: RecordSource<unknown>;
}

/** A source that reads several buffers, for one consumer. */
class MergedSource<E> extends RecordSource<E> {
  /** The buffers whose consumer this is now. */
  readonly #claimed = new Set<Member>();
  readonly #watches: Map<Member, Watch>;
  readonly #reader: MergedReader;

  constructor(members: readonly Member[]) {
    const reader = new MergedReader(members);
    const watches = new Map<Member, Watch>();
    super(new MergedMap(reader, watches, () => this.#stats), mergedType(reader), reader);
    this.#reader = reader;
    this.#watches = watches;
    this.isReferenced = members.some(({ source }) => source.isReferenced);
  }

  override claim(kind: ConsumerKind): void {
    try {
      for (const member of this.#reader.members.values()) {
        member.source.claim(kind);
        this.#claimed.add(member);
        member.source.consumer = {
          consume: () => this.consumer?.consume() ?? 0,
          end: () => this.#drop(member),
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

  /** Removes a buffer that was disposed of. The consumer ends with the last one. */
  #drop(member: Member): void {
    this.#claimed.delete(member);
    member.source.free();
    this.#reader.remove(member.source.reader);
    this.#watches.get(member)?.[Symbol.dispose]();
    this.#watches.delete(member);
    if (this.#claimed.size === 0) this.consumer?.end();
  }

  /** Keeps the process alive as long as one of the buffers does. */
  #keepAlive(): void {
    this.keepAlive(Array.from(this.#claimed).some(({ source }) => source.isReferenced));
  }

  get #stats(): ConsumerStats {
    const { wakeups, polls, batches, largestBatch } = this;
    const { readers, members, totals, backlog } = this.#reader;
    // Sums the counts of the maps, because the totals lack the events that programs counted as lost.
    const lost = readers.reduce(
      (sum, reader) => sum + (members.get(reader)?.source.map.stats.lost ?? 0),
      0,
    );
    return { ...totals, lost, wakeups, polls, batches, largestBatch, backlog };
  }
}

/** The map of a {@link MergedSource}: it waits for all buffers. */
class MergedMap implements ConsumedMap {
  /** An id that is not a map id, because each buffer is claimed by its own id. */
  readonly id = 0;
  readonly #reader: MergedReader;
  readonly #watches: Map<Member, Watch>;
  readonly #stats: () => ConsumerStats;

  constructor(reader: MergedReader, watches: Map<Member, Watch>, stats: () => ConsumerStats) {
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
      for (const watch of watches.values()) watch[Symbol.dispose]();
      watches.clear();
    };
    try {
      for (const member of this.#reader.members.values()) {
        watches.set(member, member.source.map.watch(onReady));
      }
    } catch (error) {
      dispose();
      throw error;
    }
    return {
      arm: () => watches.forEach((watch) => watch.arm()),
      disarm: () => watches.forEach((watch) => watch.disarm()),
      keepAlive: (alive) => watches.forEach((watch) => watch.keepAlive(alive)),
      [Symbol.dispose]: dispose,
    };
  }

  /** Returns the name of the buffer of the current record. */
  toString(): string {
    return `${this.#reader.member.source.map}`;
  }
}

/** Returns a type that decodes events by the type of the buffer of the current record. */
function mergedType<E>(reader: MergedReader): Type<E> {
  return {
    kind: "merged",
    get name() {
      return reader.member.source.type.name;
    },
    get size() {
      return reader.member.source.type.size;
    },
    get align() {
      return reader.member.source.type.align;
    },
    read: (view, offset) => {
      const { from, source } = reader.member;
      return { from, event: source.type.read(view, offset) } as E;
    },
    write: (view, offset, { event }: E & { readonly event: unknown }) =>
      reader.member.source.type.write(view, offset, event),
  };
}

/** A reader of several buffers. */
class MergedReader extends RoundRobinReader<RecordReader> implements RecordReader {
  readonly members: ReadonlyMap<RecordReader, Member>;
  /**
   * Bytes of the smallest buffer, which fills first. Decisions that use this size assume that all events come from that
   * buffer.
   */
  readonly byteLength: number;
  readonly code: DrainCode = sharedDrainCode;
  #isDraining = false;
  #stopped = false;

  constructor(members: readonly Member[]) {
    super(members.map(({ source }) => source.reader));
    this.members = new Map(members.map((member) => [member.source.reader, member]));
    this.byteLength = Math.min(...this.readers.map(({ byteLength }) => byteLength));
  }

  /** The buffer of the current record. */
  get member(): Member {
    return this.members.get(this.current ?? (this.readers[0] as RecordReader)) as Member;
  }

  /** Counts of all buffers, including removed ones. */
  get totals(): ReaderTotals {
    const sum = { events: 0, bytes: 0, discarded: 0, lost: 0, overwrittenBytes: 0 };
    for (const { totals } of this.members.keys()) {
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
    // The result if a callback throws: there may be more records.
    this.end = "limit";
    let end: DrainEnd = "empty";
    let count = 0;
    try {
      // The turn is not reset between drains, because a consumer drains a few events at a time.
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
