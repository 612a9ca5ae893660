import { checkBoolean } from "../types/argument.ts";
import type { Fields, StructCursor, StructType, Type } from "../types/type.ts";
import type { PresentingCode, RawRecordCallback } from "./drain_code.ts";
import type { RecordReader } from "./record_reader.ts";

/** What makes of records the events that a callback is called with. */
export interface Presenter<E> {
  /** The callback for records; it is better code when a reader is busy, so that it is asked for at each drain. */
  callback(fn: (event: E) => void): RawRecordCallback;
  /** The records may not be read any more. */
  release(): void;
}

/** A buffer whose events are shown. */
export interface PresentedBuffer<E> {
  readonly reader: RecordReader;
  readonly type: Type<E>;
  /** Names it in errors. */
  readonly what: string;
}

/** The ways to show a buffer's events. */
export class Presenters<E> {
  readonly #buffer: PresentedBuffer<E>;
  #ofDrains: { decoding?: Presenter<E>; showing?: Presenter<E> } = {};

  constructor(buffer: PresentedBuffer<E>) {
    this.#buffer = buffer;
  }

  /** Throws for a record that is too short. */
  readonly refuse = (length: number): never => {
    const { what, type } = this.#buffer;
    throw new RangeError(
      `a record of ${what} has ${length} bytes, but its event type ${type.name} takes ${type.size}`,
    );
  };

  /** That of all drains of the buffer: the same one, as the engine compiles what it refers to into the callback. */
  ofDrains(inPlace: boolean): Presenter<E> {
    checkBoolean("inPlace", inPlace);
    const presenters = this.#ofDrains;
    if (inPlace) return (presenters.showing ??= this.#showing(this.cursor()));
    return (presenters.decoding ??= this.#decoding());
  }

  /** One for a consumer of its own. @throws {TypeError} where events in place are asked for, and the event is no struct */
  own(inPlace: boolean): Presenter<E> {
    checkBoolean("inPlace", inPlace);
    return inPlace ? this.#showing(this.cursor()) : this.#decoding();
  }

  /** What shows events in place. @throws {TypeError} when the event is no struct */
  cursor(): StructCursor<E> {
    const { what } = this.#buffer;
    const type = this.#buffer.type as Type<E> & Partial<StructType<Fields>>;
    if (typeof type.cursor !== "function") {
      throw new TypeError(
        `inPlace: expected an event that is a t.struct, that of ${what} is ${type.name}`,
      );
    }
    // The cursor of a Type<E> shows what that reads as: TypeScript knows it by the struct's fields only.
    return type.cursor() as unknown as StructCursor<E>;
  }

  /** Each event is an object of its own. */
  #decoding(): Presenter<E> {
    const { reader, type } = this.#buffer;
    return {
      callback: remembered(reader, (code, fn) => code.decoding(type, this.refuse, fn)),
      release: () => {},
    };
  }

  /** One object shows each event in turn. */
  #showing(cursor: StructCursor<E>): Presenter<E> {
    const { reader, type } = this.#buffer;
    return {
      callback: remembered(reader, (code, fn) => code.showing(cursor, type.size, this.refuse, fn)),
      release: () => cursor.release(),
    };
  }
}

/**
 * Makes a callback once for as long as it would be the same: the engine compiles what a function refers to into it when
 * there is one such function alone.
 */
function remembered<E>(
  reader: RecordReader,
  make: (code: PresentingCode, fn: (event: E) => void) => RawRecordCallback,
): (fn: (event: E) => void) => RawRecordCallback {
  // Weakly: what was drained with once is not to live for as long as the buffer.
  let made = new WeakMap<(event: E) => void, RawRecordCallback>();
  let madeWith: PresentingCode | undefined;
  return (fn) => {
    const { code } = reader;
    if (code !== madeWith) {
      made = new WeakMap();
      madeWith = code;
    }
    let callback = made.get(fn);
    if (callback === undefined) {
      callback = make(code, fn);
      made.set(fn, callback);
    }
    return callback;
  };
}
