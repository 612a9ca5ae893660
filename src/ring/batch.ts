import type { InPlace } from "./drain_code.ts";
import type { RecordReader } from "./record_reader.ts";

/**
 * Events that lie in the buffer still: each is shown by one and the same object, whose getters read the buffer's memory.
 *
 * It is valid until the next batch is asked for, or the iteration ends: afterwards reading an event throws. Copy what is
 * needed for longer (`type.copy(event)`).
 */
export interface Batch<E> extends Iterable<E> {
  /** How many events it has. */
  readonly length: number;
  /** Whether it is over: its events were given back. */
  readonly released: boolean;
}

/** What a batch works with. */
export interface BatchParts<E> {
  readonly reader: RecordReader;
  readonly cursor: InPlace<E>;
  readonly size: number;
  readonly refuse: (length: number) => never;
}

/** The batch of what a reader holds. */
export class HeldBatch<E> implements Batch<E> {
  readonly #parts: BatchParts<E>;
  readonly length: number;
  #released = false;

  constructor(parts: BatchParts<E>, length: number) {
    this.#parts = parts;
    this.length = length;
  }

  get released(): boolean {
    return this.#released;
  }

  *[Symbol.iterator](): Generator<E, void, undefined> {
    const { reader, cursor, size, refuse } = this.#parts;
    let at = 0;
    for (;;) {
      if (this.#released) {
        throw new Error(
          "this batch is over: its events were given back when the next one was asked for",
        );
      }
      at = reader.locate(at);
      if (at === -1) return;
      if (reader.length < size) refuse(reader.length);
      cursor.moveTo(reader.view, reader.offset);
      yield cursor.event;
    }
  }

  /** Its events are the programs' from now on. */
  release(): void {
    this.#released = true;
  }
}
