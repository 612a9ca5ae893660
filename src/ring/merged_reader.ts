import type { DrainEnd, PresentingCode, RawRecordCallback } from "./drain_code.ts";
import type { PerfReaderCommons } from "./perf_commons.ts";
import type { PerfReader } from "./perf_reader.ts";
import type { ReaderTotals, RecordReader } from "./record_reader.ts";

/** So many records of one CPU are delivered in a row, before the other CPUs have their turn. */
const recordsPerTurn = 256;

/** What the reader of several buffers works with. */
export interface MergedReaderParts {
  /** One for each CPU: one at least. */
  readonly readers: readonly PerfReader[];
  /** The same that the readers have. */
  readonly commons: PerfReaderCommons;
  /** The memory of all of them: owned from here on. */
  readonly memory: Disposable;
  /** Bytes of the data of one CPU. */
  readonly size: number;
}

/**
 * The perf buffers of all CPUs as one. Records of one CPU come in their order; those of different CPUs in none, as the kernel
 * keeps none: each CPU has a turn of some records, round and round, so that a busy one keeps no other from being read.
 */
export class MergedReader implements RecordReader {
  /**
   * Of the data of one CPU: that is what can be full, and held in one piece. What is decided by it is decided as if all came
   * from one CPU.
   */
  readonly size: number;
  readonly totals: ReaderTotals;
  readonly #readers: readonly PerfReader[];
  readonly #commons: PerfReaderCommons;
  readonly #memory: Disposable;
  /** Whose turn is the next. */
  #next = 0;
  /** Whose record was looked at last. */
  #current: PerfReader | undefined;
  #end: DrainEnd = "empty";
  #stopped = false;
  #isDraining = false;
  #disposed = false;

  constructor({ readers, commons, memory, size }: MergedReaderParts) {
    this.#readers = readers;
    this.#commons = commons;
    this.#memory = memory;
    this.size = size;
    this.totals = commons.totals;
  }

  /** The CPU of the record that was delivered last, or is being delivered; -1 before the first. */
  get cpu(): number {
    return this.#current?.cpu ?? -1;
  }

  get end(): DrainEnd {
    return this.#end;
  }

  get isCorrupt(): boolean {
    return this.#readers.some((reader) => reader.isCorrupt);
  }

  get code(): PresentingCode {
    return this.#commons.code;
  }

  get backlog(): number {
    return this.#readers.reduce((sum, { backlog }) => sum + backlog, 0);
  }

  get isDraining(): boolean {
    return this.#isDraining;
  }

  drain(fn: RawRecordCallback, limit: number): number {
    this.#isDraining = true;
    try {
      return this.#drain(fn, limit);
    } finally {
      this.#isDraining = false;
    }
  }

  #drain(fn: RawRecordCallback, limit: number): number {
    // All of them before the first callback: what that has programs write, on whatever CPU, is left.
    for (const reader of this.#readers) reader.look();
    this.#stopped = false;
    this.#end = "limit";
    let count = 0;
    let dry = 0;
    while (count < limit && dry < this.#readers.length) {
      const reader = this.#takeTurn();
      if (reader.available === 0) {
        dry++;
        continue;
      }
      dry = 0;
      this.#current = reader;
      count += reader.drain(fn, Math.min(limit - count, recordsPerTurn));
      if (this.#stopped) return count;
    }
    if (this.#readers.every(({ available }) => available === 0)) this.#end = "empty";
    return count;
  }

  interrupt(): void {
    this.#stopped = true;
    this.#current?.interrupt();
  }

  hold(limit: number, bytes: number): number {
    for (const _ of this.#readers) {
      const reader = this.#takeTurn();
      reader.look();
      const count = reader.hold(limit, bytes);
      if (count === 0) continue;
      this.#current = reader;
      this.#end = "limit";
      return count;
    }
    this.#end = "empty";
    return 0;
  }

  get heldBytes(): number {
    return this.#current?.heldBytes ?? 0;
  }

  locate(at: number): number {
    return this.#current?.locate(at) ?? -1;
  }

  get view(): DataView {
    return this.#current?.view ?? this.#commons.scratchView;
  }

  get offset(): number {
    return this.#current?.offset ?? 0;
  }

  get length(): number {
    return this.#current?.length ?? 0;
  }

  pass(at: number, events: number): void {
    this.#current?.pass(at, events);
  }

  giveBack(): void {
    this.#current?.giveBack();
  }

  #takeTurn(): PerfReader {
    const reader = this.#readers[this.#next] as PerfReader;
    this.#next = (this.#next + 1) % this.#readers.length;
    return reader;
  }

  /**
   * Unmaps the memory: views of it, and of the copy of a record that wrapped around the end, have length 0 from then on.
   *
   * @throws {Error} while an asynchronous operation of Bun uses a view of the memory: all is as before then
   */
  [Symbol.dispose](): void {
    if (this.#disposed) return;
    this.#memory[Symbol.dispose]();
    this.#disposed = true;
    this.#stopped = true;
    for (const reader of this.#readers) reader.close();
    this.#commons[Symbol.dispose]();
  }
}
