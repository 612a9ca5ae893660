/**
 * What a buffer and its consumers have done since this object for it was made. What a drain does is added when it ends, so
 * that a callback sees what was before it.
 */
export interface ConsumerStats {
  /** Records that were delivered. */
  readonly events: number;
  /** Bytes of the buffer that were given back to the kernel: headers, padding and discarded records included. */
  readonly bytes: number;
  /** Records that programs reserved and gave up. */
  readonly discarded: number;
  /**
   * Events that found no room: since its counter was made, those that programs counted with `asm.reserveOrCount()` and its
   * kin; in a perf buffer the kernel counts. Of events that programs drop without counting them nobody can know.
   */
  readonly lost: number;
  /** Bytes that programs overwrote before they were read; 0 but for a ring with the flag `"rb-overwrite"`. */
  readonly overwrittenBytes: number;
  /** Times that the kernel woke a consumer. */
  readonly wakeups: number;
  /** Looks of a consumer on a timer, or at the next turn of the event loop. */
  readonly polls: number;
  /** Looks of any kind that found something. */
  readonly batches: number;
  /** Most events that one look found. */
  readonly largestBatch: number;
  /** Bytes that wait in the buffer now: headers, padding and discarded records included. */
  readonly backlog: number;
}

/** What of that is counted by consumers, and changes. */
export class ConsumerCounts {
  wakeups = 0;
  polls = 0;
  batches = 0;
  largestBatch = 0;

  /** Notes how many events a look found. */
  found(events: number): void {
    if (events === 0) return;
    this.batches++;
    this.largestBatch = Math.max(this.largestBatch, events);
  }
}
