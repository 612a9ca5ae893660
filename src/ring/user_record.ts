import { detach } from "../ffi/user_ring_memory.ts";
import type { Type } from "../types/type.ts";
import type { OpenRecord, UserRingWriter } from "./user_ring_writer.ts";

/**
 * A record that was reserved in a user ring buffer and is the caller's until it is submitted or discarded: what
 * {@link UserRingBuf.reserve} gives.
 *
 * Until then programs see neither it nor what was reserved behind it. Its bytes are at first what earlier records left there.
 * It is disposable: with `using`, a record that is not submitted, say because of an exception, is discarded at the end.
 *
 * Everything but disposal throws once it is submitted, discarded, or the ring is disposed of.
 *
 * @example
 * ```ts
 * import { t, UserRingBuf } from "bun-bpf";
 * const Command = t.struct({ pid: t.u32, length: t.u32 });
 * using ring = new UserRingBuf({ size: 4096, event: Command });
 * const text = new TextEncoder().encode("a name of any length");
 * using record = ring.reserve(Command.size + text.length);
 * if (record !== undefined) {
 *   record.set({ pid: process.pid, length: text.length });
 *   record.bytes.set(text, Command.size);
 *   record.submit();
 * }
 * console.log(ring.stats.events, ring.backlog); // 1 40
 * ```
 */
export interface UserRecord<E> extends Disposable {
  /** How many bytes it has. */
  readonly length: number;
  /** Whether it is neither submitted nor discarded, and the ring not disposed of. */
  readonly isOpen: boolean;
  /**
   * Its bytes in place: the ring's memory, no copy. The first use of `view` or `bytes` costs some 0.2 µs.
   *
   * When the record is submitted or discarded, the view is detached, as is every other one of its `buffer`: a view that
   * is kept has length 0 then, and cannot reach the records that come there later. Only one whose buffer was transferred
   * (`postMessage`, `buffer.transfer()`) could: do not.
   */
  readonly view: DataView<ArrayBuffer>;
  /** The same as {@link view}, as bytes. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /**
   * Encodes an event of the ring's type at the record's start.
   *
   * @throws {TypeError | RangeError} for a value that the type refuses: the record stays as it is, or is written in part
   * @throws {RangeError} when the record is shorter than the type
   */
  set(event: E): this;
  /**
   * Hands the record to programs.
   *
   * @throws {Error} while an asynchronous operation of Bun uses a view of it: it stays open then
   */
  submit(): void;
  /** Gives the record up: programs pass over it. @throws as {@link submit} */
  discard(): void;
}

/** The record that {@link UserRecord} describes. */
export class ReservedRecord<E> implements UserRecord<E>, OpenRecord {
  readonly length: number;
  index = 0;
  readonly #writer: UserRingWriter;
  readonly #type: Type<E>;
  /** Where its header is in the ring's data. */
  readonly #at: number;
  #state: "open" | "encoding" | "submitted" | "discarded" = "open";
  #part: ArrayBuffer | undefined;
  #view: DataView<ArrayBuffer> | undefined;
  #bytes: Uint8Array<ArrayBuffer> | undefined;

  constructor(writer: UserRingWriter, type: Type<E>, at: number, length: number) {
    this.#writer = writer;
    this.#type = type;
    this.#at = at;
    this.length = length;
    writer.add(this);
  }

  get isOpen(): boolean {
    return this.#state === "open" || this.#state === "encoding";
  }

  get view(): DataView<ArrayBuffer> {
    const buffer = this.#buffer();
    this.#view ??= new DataView(buffer);
    return this.#view;
  }

  get bytes(): Uint8Array<ArrayBuffer> {
    const buffer = this.#buffer();
    this.#bytes ??= new Uint8Array(buffer);
    return this.#bytes;
  }

  set(event: E): this {
    this.#check();
    const { size, name } = this.#type;
    if (size > this.length) {
      throw new RangeError(
        `a record of ${this.length} bytes is too short for its event type ${name}, which takes ${size}`,
      );
    }
    this.#state = "encoding";
    try {
      this.#writer.encode(this.#type, this.#at, event);
    } finally {
      if (this.isOpen) this.#state = "open";
    }
    return this;
  }

  submit(): void {
    this.#settle("submitted");
  }

  discard(): void {
    this.#settle("discarded");
  }

  /** Ends the views; they are made anew when they are asked for again. */
  detach(): void {
    if (this.#part === undefined) return;
    if (!detach(this.#part)) {
      throw new Error(
        `a record of ${this.length} bytes cannot be submitted or disposed of yet: an asynchronous operation uses its memory; await that first`,
      );
    }
    this.#part = this.#view = this.#bytes = undefined;
  }

  abandon(): void {
    this.#end("discarded");
  }

  #settle(state: "submitted" | "discarded"): void {
    this.#check();
    this.detach();
    this.#end(state);
  }

  #end(state: "submitted" | "discarded"): void {
    this.#state = state;
    this.#writer.settle(this, this.#at, this.length, state === "discarded");
  }

  #buffer(): ArrayBuffer {
    this.#check();
    this.#part ??= this.#writer.part(this.#at, this.length);
    return this.#part;
  }

  #check(): void {
    if (this.#state === "open") return;
    if (this.#writer.disposed) throw this.#writer.refusal();
    throw new Error(
      this.#state === "encoding"
        ? "a record cannot be used while an event is being encoded into it"
        : `the record was ${this.#state} already: it cannot be used any more`,
    );
  }

  [Symbol.dispose](): void {
    if (this.isOpen) this.discard();
  }
}
