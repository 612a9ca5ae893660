/** A record in place: where its payload is in the ring's memory, valid during the call only. */
export type RawRecordCallback = (view: DataView, offset: number, length: number) => void;

/** The reader of a ring, as the drain loop sees it. */
export interface DrainControl {
  /** Bytes of the records that were delivered, the one whose callback runs included. */
  delivered: number;
  /**
   * True when a callback ended the drain or unmapped the memory, which must not be accessed then, or when a second consumer has
   * released the following records.
   */
  readonly stopped: boolean;
  /** Releases the first `bytes` bytes of those that were there at the start. */
  release(bytes: number): void;
  /** Notes why the drain ended, and its result. Called last, also when a callback throws. */
  finish(end: DrainEnd, bytes: number, events: number, discarded: number): void;
  /**
   * Returns the error for a record that is longer than the data, `at` bytes after the start of the drain; `undefined` if a second
   * consumer has released it, as programs may have overwritten it.
   */
  corruptRecord(at: number, length: number): Error | undefined;
}

/**
 * The reason for which a drain stopped. `"busy"`: the next record is reserved but not yet submitted. `"limit"`: there may be
 * more.
 */
export type DrainEnd = "empty" | "busy" | "limit";

/** Reads a value out of a record. */
export interface Decoder<E> {
  readonly size: number;
  read(view: DataView, offset: number): E;
}

/** Shows a record in place. */
export interface InPlace<E> {
  readonly event: E;
  moveTo(view: DataView, offset: number): void;
}

/** The code that runs for each record of a buffer: a copy of it for each buffer that is busy, see {@link specialize}. */
export interface DrainCode {
  /**
   * Calls `fn` with each record of the `available` bytes from `offset` on, at most `limit` of them.
   *
   * @param fence where an atomic operation orders loads, on machines that need it
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
  /** Returns a callback that decodes a record and calls `fn` with the value; `refuse` throws for a record that is too short. */
  decoding<E>(
    type: Decoder<E>,
    refuse: (length: number) => never,
    fn: (event: E) => void,
  ): RawRecordCallback;
  /** Returns a callback that calls `fn` with the one object that shows each record in turn. */
  showing<E>(
    cursor: InPlace<E>,
    size: number,
    refuse: (length: number) => never,
    fn: (event: E) => void,
  ): RawRecordCallback;
}

/**
 * Makes the code. It refers to nothing outside itself, because {@link specialize} compiles its text again: hence numbers
 * instead of the kernel's names for them.
 *
 * The loop parses headers itself, although `HeldRecords` can walk from record to record: by that walk, bench/ring_drain.ts
 * takes 1.5 times as long a record.
 */
function makeDrainCode(): DrainCode {
  return {
    drain(control, data, mask, offset, available, limit, fence, fn) {
      // Programs may go on filling the ring during a long drain only if what was delivered is released now and then.
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
          // The sign is BPF_RINGBUF_BUSY_BIT.
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

    decoding(type, refuse, fn) {
      return (view, offset, length) => {
        if (length < type.size) refuse(length);
        fn(type.read(view, offset));
      };
    },

    showing(cursor, size, refuse, fn) {
      const { event } = cursor;
      return (view, offset, length) => {
        if (length < size) refuse(length);
        cursor.moveTo(view, offset);
        fn(event);
      };
    },
  };
}

/** The code that all buffers begin with. */
export const sharedDrainCode: DrainCode = makeDrainCode();

/** A buffer gets code of its own after so many records: to compile it takes the engine a while. */
const specializedAfter = 4096;

/** Returns the code for a buffer that has used `code` so far and delivered so many events. */
export function drainCodeFor(code: DrainCode, events: number): DrainCode {
  return code === sharedDrainCode && events >= specializedAfter ? specialize() : code;
}

let copies = 0;

/**
 * Returns a copy of the code, for one buffer alone. The engine inlines the call of a callback into the loop around it only
 * where it sees few different callbacks there: without copies, bench/ring_drain.ts takes 1.7 to 4 times as long a record.
 *
 * Where code must not be made from strings, it is the shared one.
 */
export function specialize(): DrainCode {
  try {
    // The engine keeps what it learned by the text, so that no two copies may have the same.
    const text = `"use strict"; /* copy ${copies++} */ return (${makeDrainCode})();`;
    return new Function(text)() as DrainCode;
  } catch (error) {
    // Bun's flag --disallow-code-generation-from-strings, and executables that keep no text of functions.
    if (!(error instanceof EvalError || error instanceof SyntaxError)) throw error;
    return sharedDrainCode;
  }
}
