import { type Watch, watch } from "../loop/reactor.ts";
import { BpfMap } from "../maps/bpf_map.ts";
import type { MapHandle } from "../maps/create.ts";
import { checkBoolean, checkCount, checkOptions } from "../check/arguments.ts";
import { describe } from "../check/describe.ts";
import type { Type } from "../types/type.ts";
import {
  type Batch,
  BatchIterator,
  EventIterator,
  eventStream,
  InPlaceBatchIterator,
} from "./iterators.ts";
import {
  type BatchesOfEventsOptions,
  type DrainOptions,
  type EventsOptions,
  type Moderation,
  moderationOf,
  type RawDrainOptions,
  type RawSubscribeOptions,
  type RingBufTypes,
  type StreamOptions,
  type SubscribeOptions,
} from "./ring_options.ts";
import {
  BufferSubscription,
  type Consumer,
  ConsumerSlot,
  Presenters,
  type Subscription,
} from "./consumer.ts";
import type { RawRecordCallback } from "./drain_code.ts";
import type { RecordReader } from "./reader.ts";
import type { ConsumerStats } from "./stats.ts";

const eventsInBatch = 1024;
const eventsInStream = 64;

/**
 * A map that programs write events to and one consumer reads them from, in order: what {@link RingBuf} and
 * {@link PerfBuffer} have in common.
 *
 * There are several ways to consume: at once (`drain`, `drainRaw`), as a callback for what comes (`subscribe`), or by asking for
 * it (`for await`, `events`, `batches`, `stream`). One consumer at a time; the others are refused until it ends. An event is
 * delivered once: what a consumer was not given when it ends (by `break`, an error, an abort, disposal) stays for the next.
 *
 * Of several processes that open one pinned buffer, one should consume: the kernel knows of no consumers.
 */
export abstract class EventBuffer<E> extends BpfMap implements AsyncIterable<E>, AsyncDisposable {
  readonly #eventType: Type<E>;
  readonly #presenters: Presenters<E>;
  readonly #slot: ConsumerSlot;
  #disposed = false;

  /**
   * @internal
   * @param open maps the buffer's memory
   */
  protected constructor(handle: MapHandle, event: Type<E>, open: (map: BpfMap) => RecordReader) {
    super(handle);
    this.#eventType = event;
    try {
      const { id } = this;
      const what = `${this}`;
      const reader = open(this);
      this.#presenters = new Presenters({ reader, type: event, what });
      this.#slot = new ConsumerSlot({ id, what, reader, watch: (onReady) => this.watch(onReady) });
    } catch (error) {
      this.abandon(handle);
      throw error;
    }
  }

  /** The layout that records are decoded with. */
  get types(): RingBufTypes<Type<unknown>> {
    return { event: this.#eventType };
  }

  /** Bytes that wait in the buffer now, headers and discarded records included. */
  get backlog(): number {
    return this.liveReader.backlog;
  }

  /** What this buffer and its consumers have done since this object was made. */
  get stats(): ConsumerStats {
    const { totals, backlog } = this.liveReader;
    const { wakeups, polls, batches, largestBatch } = this.#slot.counts;
    const { events, bytes, discarded, overwrittenBytes } = totals;
    const lost = totals.lost + this.countedLosses();
    const found = { events, bytes, discarded, lost, overwrittenBytes, backlog };
    return { ...found, wakeups, polls, batches, largestBatch };
  }

  /**
   * Calls `fn` with each event that is there now, decoded, and returns how many; what comes meanwhile is left.
   *
   * An exception of `fn` ends the drain and is thrown: the event it was called with counts as delivered, the rest stays.
   *
   * @throws {RangeError} for a record that is shorter than the event's type: it counts as delivered, the rest stays
   * @throws {TypeError} with `inPlace` when the event is no struct
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
    void this.liveReader;
    const presenter = this.#presenters.ofDrains(inPlace);
    const callback = () => presenter.callback(fn);
    return this.#slot.drain(callback, limit, () => presenter.release());
  }

  /**
   * Calls `fn` with the place of each record that is there, without copying or allocating; returns how many.
   *
   * The view is the kernel's memory, read-only: a store to it ends the process. It is the same view every time (but for a
   * {@link PerfBuffer}), and the record is valid during the call only: afterwards programs overwrite it, and whoever kept the
   * offset reads their bytes.
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
    void this.liveReader;
    return this.#slot.drain(() => fn, options.limit);
  }

  /**
   * The events as they come, decoded one by one. The process stays alive while the loop waits; nothing runs meanwhile.
   *
   * Leaving the loop ends the iteration and keeps what was not delivered. Disposing of the buffer ends it, too; so does
   * the signal, with an exception: its reason.
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
    const moderation = moderationOf("events", options, []);
    void this.liveReader;
    return this.#slot.begin(
      "iteration",
      moderation,
      (parts) => new EventIterator(parts, this.#eventType, this.#presenters.refuse),
    );
  }

  /** The same as {@link events} without options. */
  [Symbol.asyncIterator](): AsyncIterableIterator<E> {
    return this.events();
  }

  /**
   * What is there, as it comes, in arrays of at most `max` events: a fraction of the cost of one by one.
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
    const moderation = moderationOf("batches", options, ["max", "inPlace"]);
    const { max = eventsInBatch, inPlace = false } = options;
    checkCount("max", max, 1);
    checkBoolean("inPlace", inPlace);
    void this.liveReader;
    if (!inPlace) return this.#arrays("iteration", moderation, () => max);
    const cursor = this.#presenters.cursor();
    const { refuse } = this.#presenters;
    const { size } = this.#eventType;
    return this.#slot.begin("iteration", moderation, (parts) => {
      const batch = { reader: parts.reader, cursor, size, refuse };
      return new InPlaceBatchIterator(parts, batch, max, () => cursor.release());
    });
  }

  /**
   * Calls `fn` with each event as it comes, from the next turn of the event loop on, until the subscription is disposed of.
   *
   * An exception of `fn` is an uncaught one, as with any event listener: the event counts as delivered, and the
   * subscription goes on. `fn` may dispose of the subscription or the buffer: what it was not called with stays. The signal
   * ends it without an error.
   *
   * @throws {TypeError} with `inPlace` when the event is no struct
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
    const moderation = moderationOf("subscribe", options, ["budget", "inPlace"]);
    const presenter = this.#presenters.own(options.inPlace ?? false);
    return this.#subscribe(
      () => presenter.callback(fn),
      () => presenter.release(),
      options,
      moderation,
    );
  }

  /**
   * The same with the place of each record, as {@link drainRaw} has it.
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
    const moderation = moderationOf("subscribeRaw", options, ["budget"]);
    return this.#subscribe(
      () => fn,
      () => {},
      options,
      moderation,
    );
  }

  /**
   * The events as a web stream. It takes from the buffer what is read from it and `highWaterMark` events more: those that it
   * holds when it is cancelled, or errored by the signal with its reason, are gone. Disposal of the buffer closes it behind
   * them.
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
    const moderation = moderationOf("stream", options, ["highWaterMark"]);
    const { highWaterMark = eventsInStream } = options;
    checkCount("highWaterMark", highWaterMark, 1);
    void this.liveReader;
    return eventStream((wanted) => this.#arrays("stream", moderation, wanted), highWaterMark);
  }

  /**
   * Has the consumer that waits look now, whether or not the kernel was told to wake anybody: for records that programs write
   * with `BPF_RB_NO_WAKEUP`. How many events (of `batches`: batches) it was given.
   */
  flush(): number {
    void this.liveReader;
    return this.#slot.flush();
  }

  /** Has consumers that wait keep the process alive, which is so from the start. */
  ref(): this {
    this.#slot.keepAlive(true);
    return this;
  }

  /** Lets the process end although a consumer waits. */
  unref(): this {
    this.#slot.keepAlive(false);
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
    this.#slot[Symbol.dispose]();
    this.#disposed = true;
    super[Symbol.dispose]();
  }

  /** The same as `Symbol.dispose`, for `await using`. */
  async [Symbol.asyncDispose](): Promise<void> {
    this[Symbol.dispose]();
  }

  /** @internal */
  protected get liveReader(): RecordReader {
    if (this.#disposed) throw this.descriptor.refusal();
    return this.#slot.reader;
  }

  /** @internal What programs counted as lost by themselves. */
  protected abstract countedLosses(): number;

  /** @internal How the event loop waits for the buffer. */
  protected watch(onReady: () => void): Watch {
    return watch(() => this.fd, onReady);
  }

  #subscribe(
    callback: () => RawRecordCallback,
    onRelease: () => void,
    { budget }: RawSubscribeOptions,
    moderation: Moderation,
  ): Subscription {
    if (budget !== undefined) checkCount("budget", budget, 1);
    void this.liveReader;
    const stats = () => this.stats;
    return this.#slot.begin(
      "subscription",
      moderation,
      (parts) => new BufferSubscription({ ...parts, budget, callback, onRelease, stats }),
    );
  }

  /** @param max events in the next array at the most */
  #arrays(
    consumer: Consumer,
    moderation: Moderation,
    max: () => number,
  ): AsyncIterableIterator<E[], undefined> {
    const presenter = this.#presenters.own(false);
    return this.#slot.begin(
      consumer,
      moderation,
      (parts) => new BatchIterator<E>(parts, (fn) => presenter.callback(fn), max),
    );
  }
}

function checkCallback(method: string, fn: unknown): void {
  if (typeof fn === "function") return;
  throw new TypeError(`${method}: expected a function, got ${describe(fn)}`);
}
