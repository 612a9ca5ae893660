/**
 * A callback that gets a record in place: its payload is the `length` bytes of `view` from `offset` on. These bytes are
 * valid only until the callback returns.
 */
export type RawRecordCallback = (view: DataView, offset: number, length: number) => void;

/** The part of a reader that the drain loop uses. */
export interface DrainControl {
  /** Bytes of the delivered records, including the record whose callback runs. */
  delivered: number;
  /**
   * True if a callback ended the drain or disposed of the buffer (its memory must not be accessed then), or if a second
   * consumer has released the following records.
   */
  readonly stopped: boolean;
  /** Releases the first `bytes` bytes after the start of the drain. */
  release(bytes: number): void;
  /** Stores the reason for the end, and counts the result. The drain loop calls it last, also if a callback throws. */
  finish(end: DrainEnd, bytes: number, events: number, discarded: number): void;
  /**
   * Returns the error for a record that exceeds the written bytes, `at` bytes after the start of the drain. Returns `undefined`
   * if a second consumer has released the record: programs may have overwritten it then.
   */
  corruptRecord(at: number, length: number): Error | undefined;
}

/**
 * Reasons for the end of a drain. `"empty"`: all records were delivered. `"busy"`: the next record is reserved and not yet
 * submitted. `"limit"`: there may be more records.
 */
export type DrainEnd = "empty" | "busy" | "limit";

/** The part of a type that decodes records. */
interface Decoder<E> {
  readonly size: number;
  read(view: DataView, offset: number): E;
}

/** The part of a cursor that reads records in place. */
interface InPlace<E> {
  readonly event: E;
  moveTo(view: DataView, offset: number): void;
}

/** The code that runs for each record of a buffer. A busy buffer gets a copy, see {@link specialize}. */
export interface DrainCode {
  /**
   * Calls `fn` with at most `limit` records of the `available` bytes from `offset` on. Returns the number of records.
   *
   * @param fence memory for the atomic operations that order loads; `undefined` on machines that keep loads in order
   */
  drain(
    control: DrainControl,
    data: DataView,
    mask: number,
    offset: number,
    available: number,
    limit: number,
    fence: Int32Array | undefined,
    fn: RawRecordCallback,
  ): number;
  /**
   * Returns a callback that decodes a record and calls `fn` with the value. `rejectShort` throws for a record that is too
   * short.
   */
  decoding<E>(
    type: Decoder<E>,
    rejectShort: (length: number) => never,
    fn: (event: E) => void,
  ): RawRecordCallback;
  /** Returns a callback that moves the cursor to a record and calls `fn` with the object of the cursor. */
  showing<E>(
    cursor: InPlace<E>,
    size: number,
    rejectShort: (length: number) => never,
    fn: (event: E) => void,
  ): RawRecordCallback;
}

/**
 * Returns the drain code. The code must not refer to anything outside this function, because {@link specialize} compiles its
 * source text again. Therefore it contains numbers instead of the names of the kernel's constants.
 *
 * The loop parses headers itself, although `HeldRecords` can also step from record to record. With the steps of
 * `HeldRecords`, bench/ring_drain.ts takes 1.5 times as long per record.
 */
function makeDrainCode(): DrainCode {
  return {
    drain(control, data, mask, offset, available, limit, fence, fn) {
      // Delivered records are also released during the drain, so that programs do not run out of room in a long one.
      const releaseAfter = (mask + 1) / 4;
      let at = offset;
      let done = 0;
      let released = 0;
      let count = 0;
      let discarded = 0;
      let end: DrainEnd = "limit";
      try {
        while (done !== available) {
          if (count >= limit) break;
          const header = data.getInt32(at, true);
          // The sign bit is BPF_RINGBUF_BUSY_BIT.
          if (header < 0) {
            end = "busy";
            break;
          }
          if (fence !== undefined) {
            Atomics.store(fence, 0, 0);
            Atomics.load(fence, 0);
          }
          const length = header & 0x3fff_ffff;
          // BPF_RINGBUF_HDR_SZ is 8, and records begin at multiples of 8.
          const advance = (length + 15) & ~7;
          if (advance > available - done) {
            const error = control.corruptRecord(done, length);
            if (error === undefined) break;
            throw error;
          }
          const payload = at + 8;
          done += advance;
          at = (at + advance) & mask;
          // BPF_RINGBUF_DISCARD_BIT.
          if ((header & 0x4000_0000) !== 0) {
            discarded++;
            continue;
          }
          count++;
          control.delivered = done;
          fn(data, payload, length);
          if (control.stopped) break;
          if (done - released >= releaseAfter) {
            control.release(done);
            if (control.stopped) break;
            released = done;
          }
        }
        if (done === available) end = "empty";
      } finally {
        control.finish(end, done, count, discarded);
      }
      return count;
    },

    decoding(type, rejectShort, fn) {
      return (view, offset, length) => {
        if (length < type.size) rejectShort(length);
        fn(type.read(view, offset));
      };
    },

    showing(cursor, size, rejectShort, fn) {
      const { event } = cursor;
      return (view, offset, length) => {
        if (length < size) rejectShort(length);
        cursor.moveTo(view, offset);
        fn(event);
      };
    },
  };
}

/** The code that each buffer uses until it is busy. */
export const sharedDrainCode: DrainCode = makeDrainCode();

/**
 * The number of events after which a buffer gets specialized code: for fewer events, the compilation would cost more time
 * than it saves.
 */
const eventsUntilSpecialized = 4096;

/** Returns the code for a buffer that has used `code` so far and has delivered this many events. */
export function drainCodeFor(code: DrainCode, events: number): DrainCode {
  return code === sharedDrainCode && events >= eventsUntilSpecialized ? specialize() : code;
}

let copies = 0;

/**
 * Returns a copy of the code for one buffer. The engine inlines a callback into the loop only if the loop calls few different
 * callbacks: without copies, bench/ring_drain.ts takes 1.7 to 4 times as long per record.
 *
 * Returns the shared code if code cannot be generated from strings.
 */
export function specialize(): DrainCode {
  try {
    // The engine shares profiling data between functions with the same source text, so each copy needs a different text.
    const text = `"use strict"; /* copy ${copies++} */ return (${makeDrainCode})();`;
    return new Function(text)() as DrainCode;
  } catch (error) {
    // EvalError: Bun's flag --disallow-code-generation-from-strings. SyntaxError: an executable without the source text of
    // functions.
    if (!(error instanceof EvalError || error instanceof SyntaxError)) throw error;
    return sharedDrainCode;
  }
}
