import type { Decoder } from "./drain_code.ts";
import type { ConsumerParts } from "./consumer_slot.ts";
import { PulledIterator } from "./pulled_iterator.ts";
import type { RecordReader } from "./record_reader.ts";
import type { ConsumerCounts } from "./stats.ts";

/** So many records are looked at together, which costs less than one by one. */
const recordsAtOnce = 64;
/** Of the buffer, how much they may fill: their room is given back together, too. */
const partAtOnce = 1 / 8;

/** Asynchronous iteration over a buffer, event by event. */
export class EventIterator<E> extends PulledIterator<E> {
  readonly #reader: RecordReader;
  readonly #counts: ConsumerCounts;
  readonly #type: Decoder<E>;
  readonly #refuse: (length: number) => never;
  /** Where the next record is among those that are held; -1 for none. */
  #at = -1;

  constructor(parts: ConsumerParts, type: Decoder<E>, refuse: (length: number) => never) {
    super(parts);
    this.#reader = parts.reader;
    this.#counts = parts.counts;
    this.#type = type;
    this.#refuse = refuse;
  }

  protected override take(): boolean {
    const reader = this.#reader;
    if (this.#at !== -1) this.#at = reader.locate(this.#at);
    if (this.#at === -1) {
      // Behind the last event there may be records that programs gave up.
      reader.pass(reader.heldBytes, 0);
      reader.giveBack();
      const count = reader.hold(recordsAtOnce, reader.size * partAtOnce);
      this.#counts.found(count);
      if (count === 0) return false;
      this.#at = reader.locate(0);
    }
    const { view, offset, length } = reader;
    // Before it is decoded: a record that cannot be counts as delivered, or it would stand in the way for ever.
    reader.pass(this.#at, 1);
    if (length < this.#type.size) this.#refuse(length);
    this.taken = this.#type.read(view, offset);
    return true;
  }

  protected override settle(): void {
    this.#reader.giveBack();
  }
}
