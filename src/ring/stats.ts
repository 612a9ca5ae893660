import { PerCpuArrayMap } from "../maps/array_map.ts";
import { u64Number } from "../types/integer.ts";
import { BPF_OBJ_NAME_LEN } from "../uapi/bpf.ts";

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
  /** Bytes that programs overwrote before they were read; 0 but for a ring with the flag `"rb_overwrite"`. */
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

/** The counters of the rings that this thread has open, by the kernel's id. */
const counters = new Map<number, LossCounter>();

/** What a ring's lost events are counted in: of several objects for one ring, each should see what programs count by another. */
export class LossCounter {
  readonly #id: number;
  #objects = 0;
  #map: PerCpuArrayMap<typeof u64Number> | undefined;

  private constructor(id: number) {
    this.#id = id;
    counters.set(id, this);
  }

  /** The counter of a ring, for one more object: which is to release it. */
  static of(id: number): LossCounter {
    const counter = counters.get(id) ?? new LossCounter(id);
    counter.#objects++;
    return counter;
  }

  /** The map, made when it is first asked for. */
  map(ringName: string): PerCpuArrayMap<typeof u64Number> {
    const suffix = "_lost";
    const name = ringName.slice(0, BPF_OBJ_NAME_LEN - 1 - suffix.length) + suffix;
    this.#map ??= new PerCpuArrayMap({ value: u64Number, length: 1, name });
    return this.#map;
  }

  get total(): number {
    return this.#map?.sum(0) ?? 0;
  }

  release(): void {
    if (--this.#objects > 0) return;
    counters.delete(this.#id);
    this.#map?.[Symbol.dispose]();
  }
}
