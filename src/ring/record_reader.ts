import type { DrainEnd, PresentingCode, RawRecordCallback } from "./drain_code.ts";

/** What was read since the reader was made. */
export interface ReaderTotals {
  /** Records that were delivered. */
  events: number;
  /** Bytes of the buffer that were given back, headers and discarded records included. */
  bytes: number;
  /** Records that programs gave up. */
  discarded: number;
  /** Records that the kernel says it had no room for; only perf buffers know. */
  lost: number;
  /** Bytes that were overwritten before they were read; only in overwrite mode. */
  overwrittenBytes: number;
}

/** Of a reader that has read nothing yet. */
export function noTotals(): ReaderTotals {
  return { events: 0, bytes: 0, discarded: 0, lost: 0, overwrittenBytes: 0 };
}

/**
 * The one consumer of a buffer that programs write records to: the protocol, whatever kind of buffer it is.
 *
 * A record is delivered when a callback is called with it, and given back to the kernel some time after: together with
 * others, at the latest when the drain ends. A record whose callback throws counts as delivered.
 */
export interface RecordReader extends Disposable {
  readonly totals: ReaderTotals;
  /** Bytes that the buffer holds. */
  readonly size: number;
  /** Bytes that wait, headers and discarded records included. */
  readonly backlog: number;
  /** Why the last {@link drain} or {@link hold} stopped. */
  readonly end: DrainEnd;
  /** Whether the memory was found to hold what cannot be: there is no way on. */
  readonly isCorrupt: boolean;
  /** What makes callbacks of this reader's drains. */
  readonly code: PresentingCode;

  /**
   * Calls `fn` with each record that is there at the start, at most `limit` of them; how many it was.
   *
   * What programs add meanwhile is left for the next drain: a program that keeps pace with `fn` would hold it for ever.
   */
  drain(fn: RawRecordCallback, limit: number): number;
  /** Whether a callback of {@link drain} runs: nothing else may read meanwhile. */
  readonly isDraining: boolean;
  /**
   * Ends the drain under way, if any, after the record whose callback runs: what follows it stays, and what was delivered is
   * given back now, so that another object for the same buffer can go on from there.
   */
  interrupt(): void;

  /**
   * Keeps the next records where they are, at most `limit` of them in at most `bytes` bytes but for a longer first one;
   * how many they are. They stay until {@link giveBack}.
   */
  hold(limit: number, bytes: number): number;
  /** How many bytes of records are held. */
  readonly heldBytes: number;
  /**
   * Goes to the record that is `at` bytes from the start of what is held: then {@link view}, {@link offset} and
   * {@link length} say where it is. Where the next one is, or -1 when there was none.
   */
  locate(at: number): number;
  readonly view: DataView;
  readonly offset: number;
  readonly length: number;
  /** Notes that everything up to `at` was delivered: it is given back in any case, also by disposal. */
  pass(at: number, events: number): void;
  /** Gives back what was passed, and holds nothing any more. */
  giveBack(): void;
}
