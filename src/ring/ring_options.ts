import { checkCount, checkOptions } from "../check/arguments.ts";
import { describe } from "../check/describe.ts";
import { suggest } from "../check/names.ts";
import { pageSize } from "../ffi/mapped_memory.ts";
import { type AnyType, checkPlainType, type MapClassName, MapKind } from "../maps/map_options.ts";
import type { CommonMapOptions } from "../maps/map_spec.ts";
import type { MapType } from "../maps/map_types.ts";

/**
 * Modes that decide when a consumer checks its buffer: `"interrupt"` when the kernel wakes it, `"poll"` on a timer,
 * `"adaptive"` when the kernel wakes it, but on a timer while many events arrive.
 */
export type WakeupMode = "adaptive" | "interrupt" | "poll";

const wakeupModes: readonly WakeupMode[] = ["adaptive", "interrupt", "poll"];

/** Options of all consumers that wait for events: `events`, `batches`, `subscribe`, `subscribeRaw` and `stream`. */
export interface ConsumeOptions {
  /**
   * Ends the consumer when this signal aborts. Iterations and streams fail with the reason of the signal; a subscription ends
   * without an error. Undelivered events stay in the buffer, but those that a stream has read ahead are lost.
   */
  readonly signal?: AbortSignal;
  /**
   * The mode that decides when the consumer checks the buffer.
   *
   * A wake-up costs this process a turn of the event loop, and the program that wrote the record an interrupt. `"adaptive"`
   * sleeps until the kernel wakes it. While at least `threshold` events arrive per `interval`, it instead checks the buffer once
   * per `interval`, or sooner if 40 % of the buffer would be full before. If the buffer fills up to 40 % within a millisecond,
   * timers are too slow and it waits for wake-ups again: choose a size that holds the events of some milliseconds.
   * `"interrupt"` has the shortest delay and the highest cost. `"poll"` is for programs that write with `BPF_RB_NO_WAKEUP`.
   *
   * @default "adaptive"
   */
  readonly wakeup?: WakeupMode;
  /**
   * Milliseconds between two checks of the buffer by timer, in the modes `"poll"` and `"adaptive"`: 1 to 60,000.
   *
   * @default 1
   */
  readonly interval?: number;
  /**
   * The number of events per interval at which `"adaptive"` changes from wake-ups to the timer: an integer from 1. It
   * changes back after three intervals in a row with less than half as many events.
   *
   * @default 16
   */
  readonly threshold?: number;
  /**
   * Milliseconds after which the consumer checks the buffer even if the kernel did not wake it: 1 to 60,000. It bounds the
   * delay of records that programs write with `BPF_RB_NO_WAKEUP`, and of records below the watermark of a perf buffer.
   *
   * @default none: such records wait for the next wake-up or for `flush()`
   */
  readonly maxLatency?: number;
}

/** Options of {@link EventBuffer.drainRaw} and {@link MergedEvents.drain}. */
export interface RawDrainOptions {
  /**
   * The largest number of records to deliver: an integer from 1. All later records stay in the buffer.
   *
   * @default all records that are in the buffer at the start
   */
  readonly limit?: number;
}

/** Options of {@link EventBuffer.drain}. */
export interface DrainOptions extends RawDrainOptions {
  /**
   * Passes one reused object whose getters read each event in place, instead of one object per event: no copy, no garbage. The
   * event type must be a `t.struct`. The fields can be read until the callback returns; `type.copy(event)` returns a copy to
   * keep.
   *
   * @default false
   */
  readonly inPlace?: boolean;
}

/** Options of {@link EventBuffer.events}. */
export type EventsOptions = ConsumeOptions;

/** Options of {@link EventBuffer.batches}. */
export interface BatchesOfEventsOptions extends ConsumeOptions {
  /**
   * The largest number of events in a batch: an integer from 1.
   *
   * @default 1024
   */
  readonly max?: number;
  /**
   * Returns each batch as a {@link Batch}, which reads events in place, instead of an array of objects. The event type must be
   * a `t.struct`.
   *
   * @default false
   */
  readonly inPlace?: boolean;
}

/** Options of {@link EventBuffer.subscribeRaw} and {@link MergedEvents.subscribe}. */
export interface RawSubscribeOptions extends ConsumeOptions {
  /**
   * The largest number of events that are delivered in one turn of the event loop, before timers and I/O run: an integer from
   * 1.
   *
   * @default the events that are delivered in about 2 ms
   */
  readonly budget?: number;
}

/** Options of {@link EventBuffer.subscribe}. */
export interface SubscribeOptions extends RawSubscribeOptions {
  /**
   * Passes one reused object that reads each event in place, as {@link DrainOptions.inPlace} does.
   *
   * @default false
   */
  readonly inPlace?: boolean;
}

/** Options of {@link EventBuffer.stream}. */
export interface StreamOptions extends ConsumeOptions {
  /**
   * The largest number of events that the stream reads ahead: an integer from 1.
   *
   * @default 64
   */
  readonly highWaterMark?: number;
}

/** Options of a consumer after {@link consumeSettings} has checked them and added the defaults. */
export interface ConsumeSettings {
  readonly signal: AbortSignal | undefined;
  readonly wakeup: WakeupMode;
  readonly interval: number;
  readonly threshold: number;
  readonly maxLatency: number | undefined;
}

/** The names of {@link ConsumeOptions}. */
const consumeOptionNames = ["signal", "wakeup", "interval", "threshold", "maxLatency"];

const maxMilliseconds = 60_000;

/**
 * Checks an optional signal.
 *
 * @throws {TypeError} if it is not an AbortSignal.
 */
function checkSignal(signal: AbortSignal | undefined): void {
  if (signal === undefined || signal instanceof AbortSignal) return;
  throw new TypeError(`signal: expected an AbortSignal, got ${describe(signal)}`);
}

/**
 * Checks the options of a consumer and adds the defaults.
 *
 * @param what the name of the consuming method, for messages
 * @param known names of the options that the method has besides {@link ConsumeOptions}
 * @throws {TypeError | RangeError} if an option is misspelt, of the wrong type or out of range.
 */
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
  checkCount("interval", interval, 1, maxMilliseconds);
  checkCount("threshold", threshold, 1);
  if (maxLatency !== undefined) checkCount("maxLatency", maxLatency, 1, maxMilliseconds);
  return { signal, wakeup, interval, threshold, maxLatency };
}

/** Options of {@link UserRingBuf.write} and {@link UserRingBuf.reserveWhenFree}. */
export interface WaitForRoomOptions {
  /** Ends the wait when this signal aborts: the promise rejects with the reason of the signal, and nothing is written. */
  readonly signal?: AbortSignal;
}

/** Options of {@link UserRingBuf.writable}. */
export interface WritableOptions {
  /** Errors the stream with the reason of this signal when it aborts. Events that are not in the ring by then are not written. */
  readonly signal?: AbortSignal;
  /**
   * The number of events that the stream queues while the ring has no room: an integer from 1.
   *
   * @default 1
   */
  readonly highWaterMark?: number;
}

/**
 * Checks the options of a method that waits, and returns their signal.
 *
 * @param what the name of the method, for messages
 * @param others names of the options that the method has besides the signal
 * @throws {TypeError} if an option is misspelt or the signal is not an AbortSignal.
 */
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

/** The type of the events of a ring buffer. */
export interface RingBufTypes<E extends AnyType> {
  /** The type of an event: the layout of a record. A record may be longer than its type, but not shorter. */
  readonly event: E;
}

/** Options of {@link RingBuf} and {@link UserRingBuf}. */
export interface RingBufOptions<E extends AnyType> extends CommonMapOptions, RingBufTypes<E> {
  /**
   * The size of the ring in bytes: a power of two and a multiple of the page size (4096 on x86-64), at most 2^30; for a
   * {@link UserRingBuf} at most 2^31. A record takes its length plus 8 bytes, rounded up to a multiple of 8.
   */
  readonly size: number;
}

/**
 * Returns the kind of a class of ring buffers.
 *
 * @param maxSize the largest size in bytes, a power of two. A mapping has at most 4 GiB, and the mapping of a ring buffer
 * contains the data twice.
 */
export function ringKind<ClassName extends MapClassName>(
  row: MapType,
  className: ClassName,
  maxSize: number,
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
      checkBufferSize(size, maxSize);
      return { maxEntries: size };
    },
  });
}

/**
 * Checks the size of a buffer in bytes.
 *
 * @throws {RangeError} if it is not a power of two from the page size to `maxSize`; the message has the next valid size.
 */
export function checkBufferSize(size: number, maxSize: number): void {
  const page = pageSize();
  if (Number.isInteger(size) && size >= page && size <= maxSize && Math.log2(size) % 1 === 0)
    return;
  const nearest = 2 ** Math.max(Math.ceil(Math.log2(Number(size) || 1)), Math.log2(page));
  throw new RangeError(
    `size: expected a power of two that is a multiple of the page size (${page}) and at most 2^${Math.log2(maxSize)}, got ${describe(size)}${nearest <= maxSize ? `; did you mean ${nearest}?` : ""}`,
  );
}
