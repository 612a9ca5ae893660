import { checkCount, checkOptions } from "../types/argument.ts";
import { describe } from "../types/refusal.ts";
import { suggest } from "../types/suggestion.ts";

/**
 * When a consumer looks whether there is something: `"adaptive"`: when the kernel wakes it, and on a timer while much comes;
 * `"interrupt"`: only when the kernel wakes it; `"poll"`: only on a timer.
 */
export type WakeupMode = "adaptive" | "interrupt" | "poll";

const wakeupModes: readonly WakeupMode[] = ["adaptive", "interrupt", "poll"];

/** What every asynchronous consumer can be told. */
export interface ConsumeOptions {
  /** Ends the consumer: what was not delivered stays in the buffer. What a stream holds is gone. */
  readonly signal?: AbortSignal;
  /**
   * When the buffer is looked at.
   *
   * A wake-up costs this process some 20 µs and the program that wrote the record an interrupt, so that many of them cost
   * more than what they tell of. `"adaptive"` sleeps in the kernel until something comes, and while at least `threshold` events
   * come within an `interval` it looks once an `interval`, or sooner when 40 % of the buffer would be full before. Where that is
   * within a millisecond, it waits for wake-ups all the same: a buffer should hold what comes in a few. `"interrupt"` is for the shortest delay whatever it costs, `"poll"` for programs that write with
   * `BPF_RB_NO_WAKEUP`.
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

/** How much a synchronous drain takes. */
export interface RawDrainOptions {
  /** Records at the most: what is left stays in the buffer. @default all that are there */
  readonly limit?: number;
}

/** How much a synchronous drain takes, and how it shows events. */
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
  /** Events in a batch at the most. @default 1024 */
  readonly max?: number;
  /** Hands out events where they are, see {@link Batch}, instead of arrays of objects. @default false */
  readonly inPlace?: boolean;
}

/** Options of {@link EventBuffer.subscribeRaw}. */
export interface RawSubscribeOptions extends ConsumeOptions {
  /**
   * Events at the most that are delivered in one turn of the event loop, before timers and I/O get theirs.
   *
   * @default as many as take some 2 ms
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
  /** Events that the stream holds for its reader at the most, before they are asked for. @default 64 */
  readonly highWaterMark?: number;
}

/** What {@link ConsumeOptions} say, checked and complete. */
export interface Moderation {
  readonly signal: AbortSignal | undefined;
  readonly wakeup: WakeupMode;
  readonly interval: number;
  readonly threshold: number;
  readonly maxLatency: number | undefined;
}

/** The names of {@link ConsumeOptions}. */
export const consumeOptionNames = ["signal", "wakeup", "interval", "threshold", "maxLatency"];

const longestMilliseconds = 60_000;

/** Checks the signal that ends something, if there is one. @throws {TypeError} */
export function checkSignal(signal: AbortSignal | undefined): void {
  if (signal === undefined || signal instanceof AbortSignal) return;
  throw new TypeError(`signal: expected an AbortSignal, got ${describe(signal)}`);
}

/** Checks the options of a consumer. @throws {TypeError | RangeError} */
export function moderationOf(
  what: string,
  options: ConsumeOptions,
  known: readonly string[],
): Moderation {
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
