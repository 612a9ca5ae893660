import type { StructCursor } from "../types/type.ts";
import type { Decoder, PresentingCode, RawRecordCallback } from "./drain_code.ts";
import type { RecordReader } from "./record_reader.ts";

/** What makes of records the events that a callback is called with. */
export interface Presenter<E> {
  /** The callback for records; asked for anew at each drain, as a busy reader gets better code meanwhile. */
  callback(fn: (event: E) => void): RawRecordCallback;
  /** The records may not be read any more. */
  release(): void;
}

interface Common {
  readonly reader: RecordReader;
  /** Throws for a record that is too short. */
  readonly refuse: (length: number) => never;
}

/** Each event is an object of its own. */
export function decode<E>({
  reader,
  type,
  refuse,
}: Common & { readonly type: Decoder<E> }): Presenter<E> {
  return {
    callback: remembered(reader, (code, fn) => code.decoding(type, refuse, fn)),
    release: () => {},
  };
}

/** One object shows each event in turn. */
export function showInPlace<E>({
  reader,
  cursor,
  size,
  refuse,
}: Common & { readonly cursor: StructCursor<E>; readonly size: number }): Presenter<E> {
  return {
    callback: remembered(reader, (code, fn) => code.showing(cursor, size, refuse, fn)),
    release: () => cursor.release(),
  };
}

/**
 * Makes a callback once for as long as it would be the same: the engine compiles what a function refers to into it when
 * there is one such function alone.
 */
function remembered<E>(
  reader: RecordReader,
  make: (code: PresentingCode, fn: (event: E) => void) => RawRecordCallback,
): (fn: (event: E) => void) => RawRecordCallback {
  let last:
    { code: PresentingCode; fn: (event: E) => void; callback: RawRecordCallback } | undefined;
  return (fn) => {
    const { code } = reader;
    if (last === undefined || last.fn !== fn || last.code !== code) {
      last = { code, fn, callback: make(code, fn) };
    }
    return last.callback;
  };
}
