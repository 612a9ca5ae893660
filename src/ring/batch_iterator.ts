import type { RawRecordCallback } from "./drain_code.ts";
import { type BatchParts, HeldBatch } from "./batch.ts";
import type { ConsumerParts } from "./consumer_slot.ts";
import { PulledIterator } from "./pulled_iterator.ts";
import type { ConsumerCounts } from "./stats.ts";

/** Asynchronous iteration over a buffer, an array of events at a time. */
export class BatchIterator<E> extends PulledIterator<E[]> {
  readonly #parts: ConsumerParts;
  readonly #append: RawRecordCallback;
  readonly #max: () => number;
  #events: E[] = [];
  /** Why the record after the events that were delivered last could not be. */
  #refusal: { readonly error: unknown } | undefined;

  /**
   * @param decoding makes the callback that hands each event on
   * @param max events in the next array at the most
   */
  constructor(
    parts: ConsumerParts,
    decoding: (fn: (event: E) => void) => RawRecordCallback,
    max: () => number,
  ) {
    super(parts);
    this.#parts = parts;
    this.#max = max;
    this.#append = decoding((event) => {
      this.#events.push(event);
    });
  }

  protected override take(): boolean {
    const { reader, counts } = this.#parts;
    // What came before a record that cannot be is delivered first; the error comes with the next call.
    if (this.#refusal !== undefined) throw this.#refusal.error;
    this.#events = [];
    try {
      reader.drain(this.#append, this.#max());
    } catch (error) {
      if (this.#events.length === 0) throw error;
      this.#refusal = { error };
    }
    this.taken = this.#events;
    counts.found(this.#events.length);
    return this.#events.length > 0;
  }

  protected override settle(): void {}
}

/** Asynchronous iteration over a buffer, some records in place at a time. */
export class InPlaceBatchIterator<E> extends PulledIterator<HeldBatch<E>> {
  protected override readonly isOneAtATime = true;
  readonly #counts: ConsumerCounts;
  readonly #parts: BatchParts<E>;
  readonly #max: number;
  readonly #onRelease: () => void;

  /** @param onRelease called when the events of a batch may not be read any more */
  constructor(parts: ConsumerParts, batch: BatchParts<E>, max: number, onRelease: () => void) {
    super(parts);
    this.#counts = parts.counts;
    this.#parts = batch;
    this.#max = max;
    this.#onRelease = onRelease;
  }

  protected override take(): boolean {
    this.settle();
    const { reader } = this.#parts;
    const count = reader.hold(this.#max, reader.size);
    this.#counts.found(count);
    if (count === 0) return false;
    reader.pass(reader.heldBytes, count);
    this.taken = new HeldBatch(this.#parts, count);
    return true;
  }

  protected override settle(): void {
    if (this.taken === undefined) return;
    this.taken.release();
    this.taken = undefined;
    this.#onRelease();
    this.#parts.reader.giveBack();
  }
}
