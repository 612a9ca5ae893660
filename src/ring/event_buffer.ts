import { type Watch, watch } from "../loop/event_loop.ts";
import { BpfMap } from "../maps/bpf_map.ts";
import type { MapHandle } from "../maps/create.ts";
import { checkBoolean, checkCount, checkOptions } from "../check/arguments.ts";
import { describe } from "../check/describe.ts";
import { type StructCursor, type Type, withFixedSize } from "../types/type.ts";
import { type ConsumerKind, type ConsumerStats, RecordSource } from "./consumer.ts";
import type { RawRecordCallback } from "./drain_code.ts";
import {
  type Batch,
  eventStream,
  PullIterator,
  takeArrays,
  takeBatches,
  takeEvents,
} from "./iterators.ts";
import type { RecordReader } from "./reader.ts";
import {
  type BatchesOfEventsOptions,
  type ConsumeSettings,
  consumeSettings,
  type DrainOptions,
  type EventsOptions,
  type RawDrainOptions,
  type RawSubscribeOptions,
  type RingBufTypes,
  type StreamOptions,
  type SubscribeOptions,
} from "./ring_options.ts";
import { CallbackConsumer, type Subscription } from "./subscription.ts";

const eventsInBatch = 1024;
const eventsInStream = 64;

/**
 * A map that programs write events to and one consumer reads them from, in order: what {@link RingBuf} and
 * {@link PerfBuffer} have in common.
 *
 * There are several ways to consume: all that is there at once (`drain`, `drainRaw`), by a callback for each new event
 * (`subscribe`), or by asking for events (`for await`, `events`, `batches`, `stream`). A buffer has one consumer at a time:
 * another one is refused until it ends. Each event is delivered once. Undelivered events of a consumer that ends (by
 * `break`, an error, an abort, disposal) stay for the next one. `peek` looks at the next event without consuming it.
 * `MergedEvents` is one consumer for several buffers.
 *
 * When several processes or threads open one buffer, only one of them should consume: the kernel does not coordinate consumers, and
 * each event goes to any of them, or to two.
 *
 * Fake timers of a test (`jest.useFakeTimers()`) do not stop consumers, which use the machine's clock.
 */
export abstract class EventBuffer<E> extends BpfMap implements AsyncIterable<E>, AsyncDisposable {
  readonly #event: Type<E>;
  readonly #source: RecordSource<E>;
  #disposed = false;

  /**
   * @internal
   * @param open maps the buffer's memory
   */
  protected constructor(handle: MapHandle, event: Type<E>, open: (map: BpfMap) => RecordReader) {
    super(handle);
    this.#event = event;
    try {
      this.#source = new RecordSource(this, withFixedSize(event), open(this));
    } catch (error) {
      handle.abandon();
      throw error;
    }
  }

  /** The layout that records are decoded with. */
  get types(): RingBufTypes<Type<unknown>> {
    return { event: this.#event };
  }

  /** Bytes that wait in the buffer now, headers and discarded records included. */
  get backlog(): number {
    return this.#live.reader.backlog;
  }

  /** Counts of what this buffer and its consumers have done since this object was made. */
  get stats(): ConsumerStats {
    const { reader, wakeups, polls, batches, largestBatch } = this.#live;
    const { backlog, totals } = reader;
    const lost = totals.lost + this.countedLosses();
    return { ...totals, lost, wakeups, polls, batches, largestBatch, backlog };
  }

  /**
   * Calls `fn` with each event that is there now, decoded, and returns their number. Events that arrive meanwhile are left.
   *
   * An exception of `fn` ends the drain and is thrown: the event it was called with counts as delivered, the rest stays.
   *
   * @throws {RangeError} for a record that is shorter than the event's type: it counts as delivered, the rest stays
   * @throws {TypeError} with `inPlace` when the event is not a struct
   * @throws {Error} when the buffer has another consumer already
   *
   * @example
   * ```ts
   * import { RingBuf, t } from "bun-bpf";
   * using ring = new RingBuf({ size: 4096, event: t.u64 });
   * console.log(ring.drain((event) => console.log(event), { limit: 100 })); // 0
   * ```
   */
  drain(fn: (event: E) => void, options: DrainOptions = {}): number {
    checkOptions("drain", options, ["limit", "inPlace"]);
    checkCallback("drain", fn);
    const { limit, inPlace = false } = options;
    checkBoolean("inPlace", inPlace);
    const source = this.#live;
    const cursor = inPlace ? source.drainCursor() : undefined;
    return source.drain(source.callback(fn, cursor), limit, cursor);
  }

  /**
   * Calls `fn` with the place of each record that is there, without copying or allocating, and returns their number.
   *
   * The view is the kernel's memory, read-only: a store to it ends the process. It is the same view every time (but for a
   * {@link PerfBuffer}), and the record is valid during the call only: afterwards programs overwrite it, and whoever kept the
   * offset reads their bytes. If its buffer is transferred (`postMessage`), this object cannot read any more, and reports an error
   * once.
   *
   * @throws {Error} when the buffer has another consumer already
   *
   * @example
   * ```ts
   * import { RingBuf, t } from "bun-bpf";
   * using ring = new RingBuf({ size: 4096, event: t.u64 });
   * let bytes = 0;
   * ring.drainRaw((_view, _offset, length) => {
   *   bytes += length;
   * });
   * console.log(bytes); // 0
   * ```
   */
  drainRaw(fn: RawRecordCallback, options: RawDrainOptions = {}): number {
    checkOptions("drainRaw", options, ["limit"]);
    checkCallback("drainRaw", fn);
    return this.#live.drain(fn, options.limit);
  }

  /**
   * Returns the next event and leaves it in the buffer, where the next drain or iteration gets it. `undefined` where there is none,
   * or where its program has not submitted it yet.
   *
   * @throws {RangeError} for a record that is shorter than the event's type; it stays in the buffer
   * @throws {Error} when the buffer has a consumer
   *
   * @example
   * ```ts
   * import { RingBuf, t } from "bun-bpf";
   * using ring = new RingBuf({ size: 4096, event: t.struct({ time: t.u64Number }) });
   * console.log(ring.peek()?.time); // undefined
   * ```
   */
  peek(): E | undefined {
    const source = this.#live;
    const { type } = source;
    let event: E | undefined;
    source.peek((view, offset, length) => {
      if (length < type.size) source.refuse(length);
      event = type.read(view, offset);
    });
    return event;
  }

  /**
   * Calls `fn` with the place of the next record as {@link drainRaw} does, and leaves it in the buffer. Returns false where
   * there is none: `fn` is not called then.
   *
   * @throws {Error} when the buffer has a consumer
   *
   * @example
   * ```ts
   * import { RingBuf, t } from "bun-bpf";
   * using ring = new RingBuf({ size: 4096, event: t.u8 });
   * let kind = -1;
   * console.log(ring.peekRaw((view, offset) => (kind = view.getUint8(offset))), kind); // false -1
   * ```
   */
  peekRaw(fn: RawRecordCallback): boolean {
    checkCallback("peekRaw", fn);
    return this.#live.peek(fn);
  }

  /**
   * Returns the events as they come, decoded one by one. While the loop waits, the process stays alive and sleeps.
   *
   * Leaving the loop ends the iteration and keeps what was not delivered. Disposing of the buffer ends it, too. The signal
   * ends it by throwing the signal's reason.
   *
   * @throws {RangeError} for a record that is shorter than the event's type: it counts as delivered, and the iteration ends
   * @throws {Error} when the buffer has another consumer already
   *
   * @example
   * ```ts
   * import { RingBuf, t } from "bun-bpf";
   * using ring = new RingBuf({ size: 4096, event: t.u64 });
   * try {
   *   for await (const event of ring.events({ signal: AbortSignal.timeout(10) })) console.log(event);
   * } catch (error) {
   *   console.log((error as Error).name); // TimeoutError
   * }
   * ```
   */
  events(options: EventsOptions = {}): AsyncIterableIterator<E> {
    const settings = consumeSettings("events", options, []);
    const source = this.#live;
    return new PullIterator(source, "iteration", settings, takeEvents(source));
  }

  /** The same as {@link events} without options. */
  [Symbol.asyncIterator](): AsyncIterableIterator<E> {
    return this.events();
  }

  /**
   * Returns the events as they come, in arrays of at most `max`. That costs a fraction of reading them one by one.
   *
   * With `inPlace` the events are not decoded but shown where they lie, see {@link Batch}: their room is given back when the
   * next batch is asked for. A batch that was handed out counts as delivered.
   *
   * @throws as {@link events}; a record that is too short comes after the batch of those before it
   *
   * @example
   * ```ts
   * import { RingBuf, t } from "bun-bpf";
   * using ring = new RingBuf({ size: 4096, event: t.struct({ pid: t.u32 }) });
   * setTimeout(() => ring[Symbol.dispose](), 10);
   * for await (const batch of ring.batches({ max: 100, inPlace: true })) {
   *   for (const event of batch) console.log(event.pid);
   * }
   * ```
   */
  batches(
    options: BatchesOfEventsOptions & { readonly inPlace: true },
  ): AsyncIterableIterator<Batch<E>>;
  batches(
    options?: BatchesOfEventsOptions & { readonly inPlace?: false },
  ): AsyncIterableIterator<E[]>;
  batches(
    options: BatchesOfEventsOptions = {},
  ): AsyncIterableIterator<E[]> | AsyncIterableIterator<Batch<E>> {
    const settings = consumeSettings("batches", options, ["max", "inPlace"]);
    const { max = eventsInBatch, inPlace = false } = options;
    checkCount("max", max, 1);
    checkBoolean("inPlace", inPlace);
    const source = this.#live;
    if (!inPlace) return this.#arrays("iteration", settings, () => max);
    return new PullIterator(source, "iteration", settings, takeBatches(source, max));
  }

  /**
   * Calls `fn` with each event as it comes, from the next turn of the event loop on, until the subscription is disposed of.
   *
   * An exception of `fn` is an uncaught one, as with any event listener: the event counts as delivered, and the
   * subscription goes on. `fn` may dispose of the subscription or the buffer: events that it was not called with stay. The
   * signal ends it without an error.
   *
   * @throws {TypeError} with `inPlace` when the event is not a struct
   * @throws {Error} when the buffer has another consumer already
   *
   * @example
   * ```ts
   * import { RingBuf, t } from "bun-bpf";
   * using ring = new RingBuf({ size: 64 * 1024, event: t.struct({ pid: t.u32, time: t.u64Number }) });
   * using subscription = ring.subscribe((event) => console.log(event.pid), { inPlace: true });
   * subscription.unref();
   * console.log(subscription.stats.events); // 0
   * ```
   */
  subscribe(fn: (event: E) => void, options: SubscribeOptions = {}): Subscription {
    checkCallback("subscribe", fn);
    const settings = consumeSettings("subscribe", options, ["budget", "inPlace"]);
    const { budget, inPlace = false } = options;
    checkBoolean("inPlace", inPlace);
    const source = this.#source;
    const cursor = inPlace ? source.cursor() : undefined;
    return this.#subscribe(settings, () => source.callback(fn, cursor), cursor, budget);
  }

  /**
   * Calls `fn` with the place of each record as it comes: like {@link subscribe}, with the arguments of {@link drainRaw}.
   *
   * @throws as {@link subscribe}
   *
   * @example
   * ```ts
   * import { RingBuf, t } from "bun-bpf";
   * using ring = new RingBuf({ size: 4096, event: t.u64Number });
   * let total = 0;
   * using _ = ring.subscribeRaw((view, offset) => {
   *   total += view.getUint32(offset, true);
   * });
   * console.log(total); // 0
   * ```
   */
  subscribeRaw(fn: RawRecordCallback, options: RawSubscribeOptions = {}): Subscription {
    checkCallback("subscribeRaw", fn);
    const settings = consumeSettings("subscribeRaw", options, ["budget"]);
    return this.#subscribe(settings, () => fn, undefined, options.budget);
  }

  /**
   * Returns the events as a web stream. It reads up to `highWaterMark` events ahead. Those are lost when the stream is
   * cancelled, or when the signal ends it with its reason as an error. Disposal of the buffer closes it after them.
   *
   * @throws {Error} when the buffer has another consumer already
   *
   * @example
   * ```ts
   * import { RingBuf, t } from "bun-bpf";
   * using ring = new RingBuf({ size: 4096, event: t.u64 });
   * const reader = ring.stream().getReader();
   * await reader.cancel();
   * ```
   */
  stream(options: StreamOptions = {}): ReadableStream<E> {
    const settings = consumeSettings("stream", options, ["highWaterMark"]);
    const { highWaterMark = eventsInStream } = options;
    checkCount("highWaterMark", highWaterMark, 1);
    return eventStream((wanted) => this.#arrays("stream", settings, wanted), highWaterMark);
  }

  /**
   * Makes the waiting consumer look now, for records that programs write with `BPF_RB_NO_WAKEUP`. Returns the number of
   * events (for `batches`, of batches) that it got.
   */
  flush(): number {
    return this.#live.consumer?.look() ?? 0;
  }

  /** Makes waiting consumers keep the process alive, as they do by default. */
  ref(): this {
    this.#source.keepAlive(true);
    return this;
  }

  /** Lets the process end although a consumer waits. */
  unref(): this {
    this.#source.keepAlive(false);
    return this;
  }

  /**
   * Ends the consumer, releases what was delivered, detaches every view and closes the descriptor; a second call does
   * nothing. Whoever waits for an event gets the end of the iteration.
   *
   * @throws {Error} while an asynchronous operation of Bun uses a view of the buffer: all is as before then
   */
  override [Symbol.dispose](): void {
    if (this.#disposed) return;
    // First what may refuse, so that a refusal leaves all as it was.
    this.#source[Symbol.dispose]();
    this.#disposed = true;
    super[Symbol.dispose]();
  }

  /** The same as `Symbol.dispose`, for `await using`. */
  async [Symbol.asyncDispose](): Promise<void> {
    this[Symbol.dispose]();
  }

  /** @internal Waits on the event loop until there is something to read: the part of a `ConsumedMap` that is not public. */
  watch(onReady: () => void): Watch {
    return watch(
      () => this.fd,
      onReady,
      // A look that no wake-up came before (`flush()`, `maxLatency`, that of another buffer) leaves the wait as it was. A
      // record that was written during the look found the consumer behind, and has woken nobody.
      () => this.backlog > 0,
    );
  }

  /** @internal The source for consumers of the buffer. @throws {DisposedError} after disposal */
  get source(): RecordSource<E> {
    return this.#live;
  }

  /** @internal Events that programs counted as lost by themselves. */
  protected countedLosses(): number {
    return 0;
  }

  /** @throws {DisposedError} after disposal */
  get #live(): RecordSource<E> {
    if (this.#disposed) throw this.descriptor.refusal();
    return this.#source;
  }

  #subscribe(
    settings: ConsumeSettings,
    callback: () => RawRecordCallback,
    cursor: StructCursor<E> | undefined,
    budget: number | undefined,
  ): Subscription {
    if (budget !== undefined) checkCount("budget", budget, 1);
    return new CallbackConsumer(this.#live, settings, callback, cursor, budget);
  }

  /** @param max events in the next array at most */
  #arrays(
    kind: ConsumerKind,
    settings: ConsumeSettings,
    max: () => number,
  ): AsyncIterableIterator<E[], undefined> {
    const source = this.#live;
    return new PullIterator(source, kind, settings, takeArrays(source, max));
  }
}

/** Checks the callback of a consumer. @throws {TypeError} */
export function checkCallback(method: string, fn: unknown): void {
  if (typeof fn === "function") return;
  throw new TypeError(`${method}: expected a function, got ${describe(fn)}`);
}
