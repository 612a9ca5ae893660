/** What was written to a user ring buffer since this object for it was made. */
export interface WriterStats {
  /** Records that were submitted. */
  readonly events: number;
  /** Bytes of the ring that were taken: headers, padding and discarded records included. */
  readonly bytes: number;
  /** Records that were reserved and given up. */
  readonly discarded: number;
  /** Records that found no room and were not waited for. */
  readonly refused: number;
  /** Times that somebody waited for room. */
  readonly waits: number;
  /** Times that the kernel woke those who waited. */
  readonly wakeups: number;
  /** Looks for room on a timer. */
  readonly polls: number;
  /** Bytes that programs have yet to drain: headers, padding and discarded records included. */
  readonly backlog: number;
}
