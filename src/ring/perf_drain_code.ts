import {
  copyOf,
  type PresentingCode,
  type RawRecordCallback,
  sharedDrainCode,
  specialize,
} from "./drain_code.ts";

/** What the drain of one CPU's perf buffer reports to, and asks, on its way. */
export interface PerfDrainControl {
  /** Whether a callback wants this drain to end, or had the memory unmapped: nothing of it may be touched any more. */
  readonly stopped: boolean;
  /** Releases the first so many bytes of what the drain began with. */
  release(bytes: number): void;
  /** Notes the result; comes last, also when a callback throws. */
  finish(bytes: number, events: number): void;
  /** Takes note of a record that no program wrote, at an offset in the data. */
  passOver(type: number, offset: number, size: number): void;
  /** Gives a copy of a record that goes on at the start of the data. */
  unwrap(offset: number, size: number): DataView;
  /** The error of a record that cannot be, so many bytes from where the drain began. */
  corruptRecord(at: number, type: number, size: number): Error;
}

/** Calls `fn` with each record of programs in the `available` bytes from `offset` on, at most `limit` of them. */
type PerfDrain = (
  control: PerfDrainControl,
  data: DataView,
  mask: number,
  offset: number,
  available: number,
  limit: number,
  fn: RawRecordCallback,
) => number;

/** The code that runs for each record of a perf buffer. */
export interface PerfDrainCode extends PresentingCode {
  readonly drain: PerfDrain;
}

/** Makes the loop. As it is made anew from its text, it refers to nothing outside itself: hence numbers instead of names. */
function makePerfDrain(): PerfDrain {
  return (control, data, mask, offset, available, limit, fn) => {
    // Programs may go on writing during a long drain only if what was delivered is released now and then.
    const releaseAfter = (mask + 1) / 4;
    let at = offset;
    let done = 0;
    let released = 0;
    let count = 0;
    try {
      while (done !== available && count < limit) {
        // Headers have 8 bytes, and records begin at multiples of 8: a header does not wrap around the end.
        const type = data.getUint32(at, true);
        const size = data.getUint16(at + 6, true);
        if (size < 8 || (size & 7) !== 0 || size > available - done) {
          throw control.corruptRecord(done, type, size);
        }
        // PERF_RECORD_SAMPLE.
        if (type !== 9) {
          control.passOver(type, at, size);
          done += size;
          at = (at + size) & mask;
          continue;
        }
        let view = data;
        let payload = at + 12;
        // One that ends with the data is whole.
        if (at + size > mask + 1) {
          view = control.unwrap(at, size);
          payload = 12;
        }
        // The smallest is a header and 8 bytes: the length of the payload and padding.
        const length = size < 16 ? size : view.getUint32(payload - 4, true);
        if (length > size - 12) throw control.corruptRecord(done, type, size);
        done += size;
        at = (at + size) & mask;
        count++;
        fn(view, payload, length);
        if (control.stopped) break;
        if (done - released >= releaseAfter) {
          control.release(done);
          released = done;
        }
      }
    } finally {
      control.finish(done, count);
    }
    return count;
  };
}

/** The code that all perf buffers begin with. */
export const sharedPerfDrainCode: PerfDrainCode = perfDrainCode(makePerfDrain(), sharedDrainCode);

/** A copy of the code, for the readers of one perf buffer alone: see {@link specialize}. */
export function specializePerf(): PerfDrainCode {
  const drain = copyOf(makePerfDrain);
  return drain === undefined ? sharedPerfDrainCode : perfDrainCode(drain, specialize());
}

function perfDrainCode(drain: PerfDrain, { decoding, showing }: PresentingCode): PerfDrainCode {
  return { drain, decoding, showing };
}
