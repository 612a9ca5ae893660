import type { DrainEnd } from "./drain_code.ts";
import type { RecordReader } from "./reader.ts";

/** The part of a reader that {@link RoundRobinReader} uses. */
export type HoldingReader = Pick<
  RecordReader,
  | "end"
  | "hold"
  | "heldBytes"
  | "locate"
  | "view"
  | "offset"
  | "length"
  | "markDelivered"
  | "releaseHeld"
  | "cancelHold"
>;

const noView = new DataView(new ArrayBuffer(0));

/** The base class of readers of several buffers. The buffers take turns, so that a busy one does not block the others. */
export abstract class RoundRobinReader<Reader extends HoldingReader> {
  /** The readers of the buffers. */
  readonly readers: Reader[];
  end: DrainEnd = "empty";
  /** The reader of the last record. */
  protected current: Reader | undefined;
  /** The index of the reader whose turn is next. */
  #next = 0;

  protected constructor(readers: readonly Reader[]) {
    this.readers = [...readers];
  }

  /** Returns the reader whose turn it is, and advances to the next one. */
  protected takeTurn(): Reader {
    const reader = this.readers[this.#next % this.readers.length] as Reader;
    this.#next = (this.#next + 1) % this.readers.length;
    return reader;
  }

  /** Removes the reader of a buffer. */
  remove(reader: Reader): void {
    const index = this.readers.indexOf(reader);
    if (index === -1) return;
    this.readers.splice(index, 1);
    if (index < this.#next) this.#next--;
    if (this.current === reader) this.current = undefined;
  }

  hold(limit: number, bytes: number): number {
    this.end = "empty";
    for (const _ of this.readers) {
      const reader = this.takeTurn();
      const count = reader.hold(limit, bytes);
      if (reader.end === "busy") this.end = "busy";
      if (count === 0) continue;
      this.current = reader;
      this.end = "limit";
      return count;
    }
    return 0;
  }

  get heldBytes(): number {
    return this.current?.heldBytes ?? 0;
  }

  locate(at: number): number {
    return this.current?.locate(at) ?? -1;
  }

  get view(): DataView {
    return this.current?.view ?? noView;
  }

  get offset(): number {
    return this.current?.offset ?? 0;
  }

  get length(): number {
    return this.current?.length ?? 0;
  }

  markDelivered(at: number, events: number): void {
    this.current?.markDelivered(at, events);
  }

  releaseHeld(): void {
    this.current?.releaseHeld();
  }

  cancelHold(): void {
    if (this.current === undefined) return;
    this.current.cancelHold();
    // The reader keeps its turn: the next hold begins with the same record.
    this.#next = this.readers.indexOf(this.current);
  }
}
