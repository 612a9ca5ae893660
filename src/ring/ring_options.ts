import { checkCount, checkOptions } from "../check/arguments.ts";
import { describe } from "../check/describe.ts";
import { suggest } from "../check/names.ts";
import { pageSize } from "../ffi/mapped_memory.ts";
import { type AnyType, checkPlainType, type MapClassName, MapKind } from "../maps/map_options.ts";
import type { CommonMapOptions } from "../maps/map_spec.ts";
import type { MapType } from "../maps/map_types.ts";

/**
 * The times at which a consumer looks for events. `"adaptive"`: when the kernel wakes it, and on a timer while many events
 * come; `"interrupt"`: only when the kernel wakes it; `"poll"`: only on a timer.
 */
export type WakeupMode = "adaptive" | "interrupt" | "poll";

const wakeupModes: readonly WakeupMode[] = ["adaptive", "interrupt", "poll"];

/** Options of every asynchronous consumer. */
export interface ConsumeOptions {
  /** Ends the consumer when it aborts. Undelivered events stay in the buffer; those that a stream has read ahead are lost. */
  readonly signal?: AbortSignal;
  /**
   * The times at which the consumer looks into the buffer.
   *
   * A wake-up costs this process about 20 µs, and the program that wrote the record an interrupt. `"adaptive"` sleeps in
   * the kernel until an event comes. While at least `threshold` events come within an `interval`, it looks once in each
   * `interval`, or sooner where 40 % of the buffer would be full before. Where that would be within a millisecond, it waits
   * for wake-ups again: a buffer should hold the events of a few milliseconds. `"interrupt"` is for the shortest delay
   * whatever it costs, `"poll"` for programs that write with `BPF_RB_NO_WAKEUP`.
   *
   * @default "adaptive"
   */
  readonly wakeup?: WakeupMode;
  /** Milliseconds from look to look while the kernel's wake-ups are not waited for: 1 to 60,000. @default 1 */
  readonly interval?: number;
  /** Events within an interval from which on `"adaptive"` stops waiting for wake-ups. @default 16 */
  readonly threshold?: number;
  /**
   * Looks after so many milliseconds even if the kernel did not wake: how long records that programs write with
   * `BPF_RB_NO_WAKEUP` wait at most. 1 to 60,000.
   *
   * @default none: such records wait for the next wake-up, or for `flush()`
   */
  readonly maxLatency?: number;
}

/** Options of {@link EventBuffer.drainRaw}. */
export interface RawDrainOptions {
  /** The largest number of records to deliver. The rest stays in the buffer. @default all that are there */
  readonly limit?: number;
}

/** Options of {@link EventBuffer.drain}. */
export interface DrainOptions extends RawDrainOptions {
  /**
   * Shows each event in place by one reused object instead of making an object for each: no copy, no garbage. The event must
   * be a `t.struct`. Its fields can be read until the next event is shown or the drain ends; `type.copy(event)` keeps it.
   *
   * @default false
   */
  readonly inPlace?: boolean;
}

/** Options of {@link EventBuffer.events}. */
export type EventsOptions = ConsumeOptions;

/** Options of {@link EventBuffer.batches}. */
export interface BatchesOfEventsOptions extends ConsumeOptions {
  /** The largest number of events in a batch. @default 1024 */
  readonly max?: number;
  /** Hands out events where they are, see {@link Batch}, instead of arrays of objects. @default false */
  readonly inPlace?: boolean;
}

/** Options of {@link EventBuffer.subscribeRaw}. */
export interface RawSubscribeOptions extends ConsumeOptions {
  /**
   * The largest number of events that are delivered in one turn of the event loop, before timers and I/O get their turn.
   *
   * @default as many as take about 2 ms
   */
  readonly budget?: number;
}

/** Options of {@link EventBuffer.subscribe}. */
export interface SubscribeOptions extends RawSubscribeOptions {
  /** Shows each event in place, as in {@link DrainOptions.inPlace}. @default false */
  readonly inPlace?: boolean;
}

/** Options of {@link EventBuffer.stream}. */
export interface StreamOptions extends ConsumeOptions {
  /** The largest number of events that the stream reads ahead. @default 64 */
  readonly highWaterMark?: number;
}

/** {@link ConsumeOptions}, checked and complete. */
export interface ConsumeSettings {
  readonly signal: AbortSignal | undefined;
  readonly wakeup: WakeupMode;
  readonly interval: number;
  readonly threshold: number;
  readonly maxLatency: number | undefined;
}

/** The names of {@link ConsumeOptions}. */
const consumeOptionNames = ["signal", "wakeup", "interval", "threshold", "maxLatency"];

const longestMilliseconds = 60_000;

/** Checks the signal that ends something, if there is one. @throws {TypeError} */
function checkSignal(signal: AbortSignal | undefined): void {
  if (signal === undefined || signal instanceof AbortSignal) return;
  throw new TypeError(`signal: expected an AbortSignal, got ${describe(signal)}`);
}

/** Checks and completes the options of a consumer. @throws {TypeError | RangeError} */
export function consumeSettings(
  what: string,
  options: ConsumeOptions,
  known: readonly string[],
): ConsumeSettings {
  checkOptions(what, options, [...consumeOptionNames, ...known]);
  const { signal, wakeup = "adaptive", interval = 1, threshold = 16, maxLatency } = options;
  checkSignal(signal);
  if (!wakeupModes.includes(wakeup)) {
    throw new TypeError(
      `wakeup: unknown mode ${describe(wakeup)}: ${suggest(String(wakeup), wakeupModes)}`,
    );
  }
  checkCount("interval", interval, 1, longestMilliseconds);
  checkCount("threshold", threshold, 1);
  if (maxLatency !== undefined) checkCount("maxLatency", maxLatency, 1, longestMilliseconds);
  return { signal, wakeup, interval, threshold, maxLatency };
}

/** Options of what waits for room in a {@link UserRingBuf}. */
export interface WaitForRoomOptions {
  /** Ends the wait: the promise is rejected with the signal's reason, and nothing was written. */
  readonly signal?: AbortSignal;
}

/** Options of {@link UserRingBuf.writable}. */
export interface WritableOptions {
  /** Ends the stream with its reason: what the ring has not taken by then is not written. */
  readonly signal?: AbortSignal;
  /** Events that the stream takes at most beyond what the ring has room for. @default 1 */
  readonly highWaterMark?: number;
}

/** Returns the signal of something that waits, checked. @throws {TypeError} */
export function signalOf(
  what: string,
  options: WaitForRoomOptions,
  others: readonly string[] = [],
): AbortSignal | undefined {
  checkOptions(what, options, ["signal", ...others]);
  const { signal } = options;
  checkSignal(signal);
  return signal;
}

/** The type of a ring buffer's events. */
export interface RingBufTypes<E extends AnyType> {
  /** The layout of a record. Records may be longer, never shorter. */
  readonly event: E;
}

/** Options of {@link RingBuf}. */
export interface RingBufOptions<E extends AnyType> extends CommonMapOptions, RingBufTypes<E> {
  /**
   * Bytes: a power of two and a multiple of the page size (4096 on x86-64); at most 2^30, as the engine maps no more than
   * twice that and a page in one piece (for a {@link UserRingBuf} 2^31).
   */
  readonly size: number;
}

/** The kind of a class of ring buffers. @param largest bytes: a power of two */
export function ringKind<ClassName extends MapClassName>(
  row: MapType,
  className: ClassName,
  largest: number,
): MapKind<ClassName, RingBufTypes<AnyType>, RingBufOptions<AnyType>> {
  return new MapKind({
    row,
    className,
    types: ["event"],
    options: ["size"],
    sizes({ event }) {
      checkPlainType("event", event);
      return { keySize: 0, valueSize: 0 };
    },
    complete({ size }) {
      checkBufferSize("a ring buffer", size, largest);
      return { maxEntries: size };
    },
  });
}

/**
 * Checks the size of a buffer that programs write to.
 *
 * @param what the kind of buffer, for messages
 * @throws {RangeError} that names a size which would do
 */
export function checkBufferSize(what: string, size: number, largest: number): void {
  const page = pageSize();
  if (Number.isInteger(size) && size >= page && size <= largest && Math.log2(size) % 1 === 0)
    return;
  const nearest = 2 ** Math.max(Math.ceil(Math.log2(Number(size) || 1)), Math.log2(page));
  throw new RangeError(
    `size: ${what} takes a power of two that is a multiple of the page size (${page}) and at most 2^${Math.log2(largest)}, got ${describe(size)}${nearest <= largest ? `; ${nearest} would do` : ""}`,
  );
}
