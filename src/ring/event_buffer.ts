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
  arrayItems,
  batchItems,
  eventItems,
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

const defaultBatchLength = 1024;
const defaultHighWaterMark = 64;

/**
 * The base class of {@link RingBuf} and {@link PerfBuffer}: a map that programs write events to, and that one consumer reads.
 *
 * Consume the events that are in the buffer now with `drain` or `drainRaw`; wait for events with `for await`, `events`,
 * `batches` or `stream`; or pass a callback for new events to `subscribe` or `subscribeRaw`. `peek` returns the next event
 * without consuming it. {@link MergedEvents} is one consumer for several buffers.
 *
 * A buffer has one consumer at a time. A second consumer gets an error until the first consumer has ended. Each event is
 * delivered once. If a consumer ends (by `break`, an exception, an abort or disposal), undelivered events stay in the buffer
 * for the next consumer.
 *
 * If several processes or threads open the same buffer, only one of them may consume. The kernel does not coordinate
 * consumers: the classes describe the effects of a second one.
 *
 * A process that has the buffer open can overwrite its positions. A buffer is corrupt if its memory has positions or lengths
 * that the kernel cannot have written. Reading a corrupt buffer throws an error.
 *
 * Consumers use the monotonic clock of the system: fake timers of tests (`jest.useFakeTimers()`) do not stop them.
 */
export abstract class EventBuffer<E> extends BpfMap implements AsyncIterable<E>, AsyncDisposable {
  readonly #event: Type<E>;
  readonly #source: RecordSource<E>;
  #disposed = false;

  /**
   * @internal
   * @param open maps the memory of the buffer and returns its reader
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

  /** The type that decodes records. */
  get types(): RingBufTypes<Type<unknown>> {
    return { event: this.#event };
  }

  /**
   * The number of unread bytes in the buffer now. Headers, padding and discarded records count.
   *
   * @throws {DisposedError} after disposal.
   */
  get backlog(): number {
    return this.#live.reader.backlog;
  }

  /**
   * Counts of the work of all consumers of this object since it was created: events, lost events, wake-ups, and so on.
   *
   * @throws {DisposedError} after disposal.
   */
  get stats(): ConsumerStats {
    const { reader, wakeups, polls, batches, largestBatch } = this.#live;
    const { backlog, totals } = reader;
    const lost = totals.lost + this.countedLosses();
    return { ...totals, lost, wakeups, polls, batches, largestBatch, backlog };
  }

  /**
   * Calls `fn` synchronously with each event that is in the buffer now, decoded. Returns the number of events.
   *
   * Events that arrive during the call stay in the buffer. If `fn` throws, the drain ends and throws the same error: the event
   * that `fn` was called with counts as delivered, and the following ones stay in the buffer. `fn` may dispose of the buffer.
   *
   * @throws {RangeError} if a record is shorter than the event type; it counts as delivered, and the following ones stay.
   * @throws {TypeError} if `inPlace` is set and the event type is not a struct.
   * @throws {Error} if the buffer has a consumer already, or its memory is corrupt.
   * @throws {DisposedError} after disposal.
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
   * Calls `fn` synchronously with the view, offset and length of each record that is in the buffer now. Returns the number of
   * records. Nothing is copied or allocated.
   *
   * The view is read-only memory of the kernel: a store to it ends the process with SIGSEGV. The view is the same in all
   * calls, except in a {@link PerfBuffer}. The bytes of a record are valid only until `fn` returns: after that, programs
   * overwrite them. Do not transfer the `ArrayBuffer` of the view (`postMessage`, `structuredClone`): the next read of the
   * buffer would then throw an error, and this object could not read the buffer any more.
   *
   * Exceptions of `fn` and disposal work as in {@link drain}.
   *
   * @throws {Error} if the buffer has a consumer already, or its memory is corrupt.
   * @throws {DisposedError} after disposal.
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
   * Returns the next event, decoded, and leaves it in the buffer. Returns `undefined` if the buffer is empty, or if a program
   * has reserved the next record and not submitted it yet.
   *
   * @throws {RangeError} if the record is shorter than the event type; it stays in the buffer.
   * @throws {Error} if the buffer has a consumer.
   * @throws {DisposedError} after disposal.
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
      if (length < type.size) source.rejectShort(length);
      event = type.read(view, offset);
    });
    return event;
  }

  /**
   * Calls `fn` with the view, offset and length of the next record, as {@link drainRaw} does, and leaves the record in the
   * buffer. Returns false, without a call of `fn`, in the cases in which {@link peek} returns `undefined`.
   *
   * @throws {Error} if the buffer has a consumer.
   * @throws {DisposedError} after disposal.
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
   * Returns an iterator over the events, decoded one by one. The iterator waits if there are no events.
   *
   * A waiting iterator sleeps without system calls and keeps the process alive ({@link unref} changes that). The iterator
   * ends if the loop is left by `break` or an exception, or if the buffer is disposed of; undelivered events stay in the
   * buffer. If the signal aborts, `next()` rejects with the reason of the signal.
   *
   * The buffer has its consumer from this call on, not from the first `next()`: an iterator that is not used in a loop needs a
   * `return()`.
   *
   * @throws {RangeError} if a record is shorter than the event type; it counts as delivered, and the iteration ends.
   * @throws {Error} if the buffer has a consumer already, or its memory is corrupt.
   * @throws {DisposedError} after disposal.
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
    return new PullIterator(source, "iteration", settings, eventItems(source));
  }

  /** Returns an iterator over the events, as {@link events} without options does. */
  [Symbol.asyncIterator](): AsyncIterableIterator<E> {
    return this.events();
  }

  /**
   * Returns an iterator over batches of at most `max` events, which are read in place, see {@link Batch}. The iterator waits
   * if there are no events.
   *
   * The events of a batch are released when the next one is requested. A batch that was returned counts as delivered, even
   * if only a part of it was read. The iterator waits and ends like the iterator of {@link events}.
   *
   * @throws {TypeError} if the event type is not a struct.
   * @throws {Error} if the buffer has a consumer already, or its memory is corrupt.
   * @throws {DisposedError} after disposal.
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
  /**
   * Returns an iterator over arrays of events. Each array has all unread events, but at most `max`. The iterator waits if
   * there are no events. Arrays cost a fraction of the time that {@link events} takes for single events.
   *
   * An array that was returned counts as delivered. The iterator waits and ends like the iterator of {@link events}.
   *
   * @throws {RangeError} if a record is shorter than the event type; the events before it are returned first, then the
   * iteration ends.
   * @throws {Error} if the buffer has a consumer already, or its memory is corrupt.
   * @throws {DisposedError} after disposal.
   *
   * @example
   * ```ts
   * import { RingBuf, t } from "bun-bpf";
   * using ring = new RingBuf({ size: 4096, event: t.u64 });
   * setTimeout(() => ring[Symbol.dispose](), 10);
   * for await (const batch of ring.batches()) console.log(batch.length);
   * ```
   */
  batches(
    options?: BatchesOfEventsOptions & { readonly inPlace?: false },
  ): AsyncIterableIterator<E[]>;
  batches(
    options: BatchesOfEventsOptions = {},
  ): AsyncIterableIterator<E[]> | AsyncIterableIterator<Batch<E>> {
    const settings = consumeSettings("batches", options, ["max", "inPlace"]);
    const { max = defaultBatchLength, inPlace = false } = options;
    checkCount("max", max, 1);
    checkBoolean("inPlace", inPlace);
    const source = this.#live;
    if (!inPlace) return this.#iterateArrays("iteration", settings, () => max);
    return new PullIterator(source, "iteration", settings, batchItems(source, max));
  }

  /**
   * Calls `fn` with each event that arrives, decoded, until the returned subscription is disposed of. The first call is in the
   * next turn of the event loop.
   *
   * The subscription keeps the process alive ({@link Subscription.unref} changes that). `fn` may dispose of the subscription or
   * the buffer; undelivered events stay in the buffer. If the signal aborts, the subscription ends without an error.
   *
   * An exception of `fn` becomes an uncaught exception, and the event counts as delivered. If the process has a listener for
   * `process.on("uncaughtException")`, the subscription continues. Otherwise Bun prints the exception and ends the process
   * with status 1. If the top level of the script still awaits, the process ends only after that. Until the process ends,
   * the subscription continues. The RangeError of a record that is shorter than the event type has the same effect.
   *
   * @throws {TypeError} if `inPlace` is set and the event type is not a struct.
   * @throws {Error} if the buffer has a consumer already.
   * @throws {DisposedError} after disposal.
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
   * Calls `fn` with the view, offset and length of each record that arrives. The arguments are those of {@link drainRaw}.
   * Everything else works as in {@link subscribe}.
   *
   * @throws {Error} if the buffer has a consumer already.
   * @throws {DisposedError} after disposal.
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
   * Returns a web stream of the events, decoded.
   *
   * The stream reads up to `highWaterMark` events ahead. These events are lost if the stream is cancelled or the signal
   * aborts. An abort errors the stream with the reason of the signal. If the buffer is disposed of, the stream delivers
   * these events and closes.
   *
   * @throws {Error} if the buffer has a consumer already.
   * @throws {DisposedError} after disposal.
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
    const { highWaterMark = defaultHighWaterMark } = options;
    checkCount("highWaterMark", highWaterMark, 1);
    return eventStream((max) => this.#iterateArrays("stream", settings, max), highWaterMark);
  }

  /**
   * Makes the waiting consumer check the buffer now, for records that no wake-up announces (`BPF_RB_NO_WAKEUP`, watermarks of
   * perf buffers). Returns the number of events that it delivered; for `batches` and `stream`, the number of batches. Returns 0
   * without a consumer.
   *
   * A subscription delivers at most the events of one turn of the event loop, see {@link Subscription.flush}; an iteration
   * delivers one item to each waiting `next()`.
   *
   * @throws {DisposedError} after disposal.
   */
  flush(): number {
    return this.#live.consumer?.consume() ?? 0;
  }

  /** Makes waiting consumers keep the process alive. This is the default. */
  ref(): this {
    this.#source.keepAlive(true);
    return this;
  }

  /** Allows the process to end while a consumer waits. */
  unref(): this {
    this.#source.keepAlive(false);
    return this;
  }

  /**
   * Ends the consumer, releases delivered records, detaches every view of the buffer and closes the descriptor. A second call
   * does nothing. A waiting iteration ends.
   *
   * @throws {Error} if an asynchronous operation of Bun uses a view of the buffer; nothing has changed then.
   */
  override [Symbol.dispose](): void {
    if (this.#disposed) return;
    // Disposal of the source may throw, so it comes first: nothing else has changed then.
    this.#source[Symbol.dispose]();
    this.#disposed = true;
    super[Symbol.dispose]();
  }

  /** Disposes of the buffer as `Symbol.dispose` does, for `await using`. */
  async [Symbol.asyncDispose](): Promise<void> {
    this[Symbol.dispose]();
  }

  /** @internal Returns a watch that calls `onReady` from the event loop when the buffer has unread records. */
  watch(onReady: () => void): Watch {
    return watch(
      () => this.fd,
      onReady,
      // A check without a wake-up (`flush()`, `maxLatency`, the wake-up of another merged buffer) leaves the wait unchanged.
      // The kernel sends no wake-up for a record that is committed during such a check, because the consumer has not caught
      // up then.
      () => this.backlog > 0,
    );
  }

  /**
   * @internal The source that consumers of the buffer read.
   *
   * @throws {DisposedError} after disposal.
   */
  get source(): RecordSource<E> {
    return this.#live;
  }

  /** @internal Returns the events that programs counted as lost. */
  protected countedLosses(): number {
    return 0;
  }

  /**
   * The source of the buffer.
   *
   * @throws {DisposedError} after disposal.
   */
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

  /**
   * Returns an iterator over arrays of events.
   *
   * @param max returns the largest number of events in the next array
   */
  #iterateArrays(
    kind: ConsumerKind,
    settings: ConsumeSettings,
    max: () => number,
  ): AsyncIterableIterator<E[], undefined> {
    const source = this.#live;
    return new PullIterator(source, kind, settings, arrayItems(source, max));
  }
}

/**
 * Checks the callback of a consumer.
 *
 * @throws {TypeError} if it is not a function.
 */
export function checkCallback(method: string, fn: unknown): void {
  if (typeof fn === "function") return;
  throw new TypeError(`${method}: expected a function, got ${describe(fn)}`);
}
