import { checkOptions } from "../types/argument.ts";
import { checkSignal } from "./consume_options.ts";

/** Options of what waits for room in a {@link UserRingBuf}. */
export interface WaitForRoomOptions {
  /** Ends the wait: the promise is rejected with the signal's reason, and nothing was written. */
  readonly signal?: AbortSignal;
}

/** Options of {@link UserRingBuf.writable}. */
export interface WritableOptions {
  /** Ends the stream with its reason: what the ring has not taken by then is not written. */
  readonly signal?: AbortSignal;
  /** Events that the stream takes at the most beyond what the ring has room for. @default 1 */
  readonly highWaterMark?: number;
}

/** The signal of what waits, checked. @throws {TypeError} */
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
