import { type InspectArguments, inspectCustom, show } from "../check/describe.ts";
import { checkCount } from "../check/arguments.ts";
import { DisposedError } from "../ffi/error.ts";
import { loadPosition, type UserRingMemory } from "../ffi/ring_memory.ts";
import type { Type } from "../types/type.ts";
import { BPF_RINGBUF_BUSY_BIT, BPF_RINGBUF_DISCARD_BIT, BPF_RINGBUF_HDR_SZ } from "../uapi/bpf.ts";
import { lengthInRing } from "./reader.ts";

/**
 * A record that was reserved in a user ring buffer and is the caller's until it is submitted or discarded: what
 * {@link UserRingBuf.reserve} gives.
 *
 * Until then programs see neither it nor what was reserved after it. Its bytes are at first what earlier records left there.
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
  /** The number of its bytes. */
  readonly length: number;
  /** True until it is submitted or discarded, or the ring is disposed of. */
  readonly isOpen: boolean;
  /**
   * Its bytes in place: the ring's memory, no copy. The first use of `view` or `bytes` costs about 0.2 µs.
   *
   * When the record is submitted or discarded, the view is detached, as is every other one of its `buffer`: a view that
   * is kept has length 0 then, and cannot reach the records that come there later. A view whose buffer was transferred
   * (`postMessage`, `buffer.transfer()`) can, and the ring's memory then stays mapped until the process ends: pass a copy instead.
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
export class ReservedRecord<E> implements UserRecord<E> {
  readonly length: number;
  /** Its place among the writer's open records. */
  index = 0;
  readonly #writer: UserRingWriter;
  readonly #type: Type<E>;
  /** The offset of its header in the ring's data. */
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

  [inspectCustom](...inspection: InspectArguments): string {
    const { length, isOpen } = this;
    return show("UserRecord", { length, isOpen }, inspection);
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
    if (!this.#writer.endPart(this.#part)) {
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

/** The memory that the writer of a user ring buffer shares with the kernel: `UserRingMemory`, or a test's own. */
export type SharedUserRing = Pick<UserRingMemory, keyof UserRingMemory>;

/** Counts of what was written to a user ring buffer since this object for it was made. */
export interface WriterStats {
  /** Records that were submitted. */
  readonly events: number;
  /** Bytes of the ring that were taken: headers, padding and discarded records included. */
  readonly bytes: number;
  /** Records that were reserved and discarded. */
  readonly discarded: number;
  /** Records that found no room and were not waited for. */
  readonly refused: number;
  /** Waits for room. */
  readonly waits: number;
  /** Times that the kernel woke those who waited. */
  readonly wakeups: number;
  /** Looks for room on a timer. */
  readonly polls: number;
  /** Bytes that programs have yet to drain: headers, padding and discarded records included. */
  readonly backlog: number;
}

/** The part of {@link WriterStats} that a writer counts. */
type WriterTotals = { -readonly [Name in "events" | "bytes" | "discarded" | "refused"]: number };

/** The kernel shows a record to programs as a dynptr, which holds no more (DYNPTR_MAX_SIZE, kernel/bpf/helpers.c). */
const largestDynptr = 2 ** 24 - 1;
/** More room than this is not counted: what one counts in stays an integer to the engine. */
const mostRoom = 0x7fff_fff8;

/** Most attempts to load positions that are inconsistent. */
const mostLooks = 100;

/** The writer that is currently encoding an event in free room. Nested writers, of other rings, form a stack by `#outer`. */
let innermost: UserRingWriter | undefined;

/**
 * The protocol of a user ring buffer's producer, over its shared memory.
 *
 * Several writers of one ring on one thread come to no harm: where the ring's end is, is asked of the ring each time, and
 * nothing runs in between. Two threads or processes at the same time do, which is noticed at best.
 *
 * The order of memory accesses, on machines that change it (on x86-64 only the engine's compilers could, and they move nothing across
 * an atomic operation):
 * - A record's bytes and header come before the position that shows it to the kernel, or before the header that ends its
 *   busy state: both are stored by sequentially consistent atomic operations, whose release half (STLR, or CASAL and the
 *   like on arm64) holds back all stores before it. The kernel loads both with acquire semantics. The position is stored by
 *   its lower half alone where the upper one stays as it is. A load of all 64 bits sees either what was before or what is
 *   after, as for the kernel's own queued spin locks, which are released by a byte and looked at as a word.
 * - The consumer's position comes before the stores into the room that it gives back: its load (`loadPosition`, with a fence
 *   on arm64) holds back all accesses after it, and pairs with the kernel's release of that position after a callback has
 *   read its record.
 */
export class UserRingWriter implements Disposable {
  readonly totals: WriterTotals = { events: 0, bytes: 0, discarded: 0, refused: 0 };
  readonly byteLength: number;
  /** Bytes of the longest record that the kernel takes. */
  readonly largest: number;
  readonly #id: number;
  readonly #what: string;
  readonly #memory: SharedUserRing;
  readonly #mask: number;
  readonly #open: ReservedRecord<unknown>[] = [];
  /** The lower half of the position up to which records are reserved. */
  #position = 0;
  /** Room that is known of from there on; there may be more. */
  #room = 0;
  #outer: UserRingWriter | undefined;
  #disposed = false;

  /**
   * @param memory owned from here on
   * @param id the kernel's id of the ring: there may be several writers of one
   */
  constructor(memory: SharedUserRing, byteLength: number, id: number, what: string) {
    this.#memory = memory;
    this.byteLength = byteLength;
    this.largest = Math.min(byteLength - BPF_RINGBUF_HDR_SZ, largestDynptr);
    this.#mask = byteLength - 1;
    this.#id = id;
    this.#what = what;
  }

  /** Bytes that programs have yet to drain. @throws {Error} when the positions cannot be */
  get backlog(): number {
    return this.byteLength - this.#look();
  }

  /** @throws {RangeError} for a record that the kernel would not take: it would block the ring for ever */
  checkLength(length: number): void {
    checkCount("length", length, 0, this.largest);
  }

  /** @throws {RangeError} as {@link checkLength} */
  checkType<E>(type: Type<E>): void {
    if (type.size <= this.largest) return;
    throw new RangeError(
      `event: ${type.name} takes ${type.size} bytes, and a record of the ${this.#what} has ${this.largest} at most`,
    );
  }

  /** Returns whether a record of so many bytes could be written now. @throws {Error} when the positions cannot be */
  hasRoomFor(length: number): boolean {
    return !this.#isEncoding() && this.#hasRoom(lengthInRing(length));
  }

  /**
   * Writes an event; false when there is no room. A value that the type refuses leaves nothing in the ring.
   *
   * @param type checked by {@link checkType}
   */
  output<E>(type: Type<E>, event: E): boolean {
    this.#refuseInside();
    const length = type.size;
    const total = lengthInRing(length);
    if (!this.#hasRoom(total)) return false;
    const at = this.#position & this.#mask;
    // Beyond the position everything is this writer's own: the record is complete when the kernel is shown it.
    this.#encodeInRoom(type, at + BPF_RINGBUF_HDR_SZ, event);
    this.#claim(at, length, total);
    this.totals.events++;
    return true;
  }

  /** Writes a record with these bytes; false when there is no room. */
  copy(bytes: Uint8Array): boolean {
    this.#refuseInside();
    const { length } = bytes;
    const total = lengthInRing(length);
    if (!this.#hasRoom(total)) return false;
    const at = this.#position & this.#mask;
    this.#memory.bytes.set(bytes, at + BPF_RINGBUF_HDR_SZ);
    this.#claim(at, length, total);
    this.totals.events++;
    return true;
  }

  /** Reserves a record, which blocks those after it until it is settled, and returns its offset, or -1 when there is no room. */
  reserve(length: number): number {
    this.#refuseInside();
    const total = lengthInRing(length);
    if (!this.#hasRoom(total)) return -1;
    const at = this.#position & this.#mask;
    this.#claim(at, length | BPF_RINGBUF_BUSY_BIT, total);
    return at;
  }

  /** Adds a record that the writer's disposal settles if nothing else does before. */
  add(record: ReservedRecord<unknown>): void {
    record.index = this.#open.length;
    this.#open.push(record);
  }

  /** Submits or discards a reserved record. */
  settle(record: ReservedRecord<unknown>, at: number, length: number, isDiscarded: boolean): void {
    const last = this.#open.pop() as ReservedRecord<unknown>;
    if (last !== record) {
      this.#open[record.index] = last;
      last.index = record.index;
    }
    const header = isDiscarded ? length | BPF_RINGBUF_DISCARD_BIT : length;
    Atomics.store(this.#memory.headers, at >> 2, header);
    if (isDiscarded) this.totals.discarded++;
    else this.totals.events++;
  }

  /** Encodes an event into a reserved record. */
  encode<E>(type: Type<E>, at: number, event: E): void {
    try {
      type.write(this.#memory.data, at + BPF_RINGBUF_HDR_SZ, event);
    } catch (error) {
      throw this.#disposed ? this.refusal() : error;
    }
    if (this.#disposed) throw this.refusal();
  }

  /** A buffer over the bytes of a reserved record. */
  part(at: number, length: number): ArrayBuffer {
    return this.#memory.part(at + BPF_RINGBUF_HDR_SZ, length);
  }

  /** Detaches the views of such a buffer. Returns false while an asynchronous operation of Bun uses one. */
  endPart(part: ArrayBuffer): boolean {
    return this.#memory.endPart(part);
  }

  get disposed(): boolean {
    return this.#disposed;
  }

  /** Returns the error of every use after disposal. */
  refusal(): DisposedError {
    return new DisposedError(this.#what);
  }

  #encodeInRoom<E>(type: Type<E>, offset: number, event: E): void {
    this.#outer = innermost;
    innermost = this;
    try {
      type.write(this.#memory.data, offset, event);
    } catch (error) {
      throw this.#disposed ? this.refusal() : error;
    } finally {
      innermost = this.#outer;
      this.#outer = undefined;
    }
    if (this.#disposed) throw this.refusal();
  }

  /** Refuses what an event's own code (a getter, a type's function) asks for while that event goes where it would go. */
  #refuseInside(): void {
    if (innermost === undefined || !this.#isEncoding()) return;
    throw new Error(
      `${this.#what} takes no record while an event is being encoded for it: write it before or after`,
    );
  }

  /** Returns whether an event is being encoded in this ring's room, by this object or another one for the same ring. */
  #isEncoding(): boolean {
    for (let writer = innermost; writer !== undefined; writer = writer.#outer) {
      if (writer.#id === this.#id) return true;
    }
    return false;
  }

  #hasRoom(total: number): boolean {
    // Another object for the same ring may have written meanwhile.
    const isCurrent = this.#memory.producerHalves[0] === this.#position;
    return (isCurrent && total <= this.#room) || total <= this.#look();
  }

  /** Returns how many bytes of room there are now. */
  #look(looks = 1): number {
    const { consumer, producer } = this.#memory;
    // In this order, as the consumer's position follows the other.
    const end = loadPosition(consumer, 0);
    const start = Number(Atomics.load(producer, 0));
    const room = this.byteLength - (start - end);
    if (
      room < 0 ||
      room > this.byteLength ||
      (start | end) & 7 ||
      start > Number.MAX_SAFE_INTEGER
    ) {
      // A second writer may have filled drained room between the two loads.
      if (looks < mostLooks) return this.#look(looks + 1);
      throw new Error(
        `${this.#what} is corrupt: programs have drained up to position ${end} of ${start}, in a ring of ${this.byteLength} bytes; was its memory changed by another process?`,
      );
    }
    this.#position = start | 0;
    this.#room = Math.min(room, mostRoom) | 0;
    return room;
  }

  /**
   * Publishes a record of `total` bytes with this header to the kernel.
   *
   * A second writer may do the same at this moment. The one that does not get the place restores the header that it found, as a
   * wrong length there would block the ring for good. A program that drains within the nanoseconds in between can still see it; a
   * busy header would be safe, but doubles the time of `output`.
   */
  #claim(at: number, header: number, total: number): void {
    const { headers, producerHalves } = this.#memory;
    const index = at >> 2;
    if (producerHalves[0] === this.#position) {
      const before = Atomics.exchange(headers, index, header);
      // In ring buffers this field is the page offset, which the kernel does not use in user ring buffers.
      headers[index + 1] = 0;
      if (this.#advance(total)) return;
      Atomics.compareExchange(headers, index, header, before);
    }
    this.#room = 0;
    throw new Error(
      `${this.#what} was written to by another thread or process at the same time, which may have corrupted a record of either: a user ring buffer allows one writer at a time`,
    );
  }

  /** Moves the producer's position. Returns false if another writer has moved it. */
  #advance(total: number): boolean {
    const { producerHalves, producer } = this.#memory;
    const before = this.#position;
    const after = (before + total) | 0;
    let isAlone: boolean;
    if (before < 0 && after >= 0) {
      // Both halves change, once in 4 GiB.
      const position = (Atomics.load(producer, 0) & ~0xffff_ffffn) | BigInt(before >>> 0);
      const next = position + BigInt(total);
      isAlone = Atomics.compareExchange(producer, 0, position, next) === position;
    } else {
      isAlone = Atomics.compareExchange(producerHalves, 0, before, after) === before;
    }
    if (!isAlone) return false;
    this.#position = after;
    this.#room -= total;
    this.totals.bytes += total;
    return true;
  }

  /**
   * Discards what is still reserved, and unmaps; a second call does nothing.
   *
   * @throws {Error} while an asynchronous operation of Bun uses the view of a record: all goes on then
   */
  [Symbol.dispose](): void {
    if (this.#disposed) return;
    for (const record of this.#open) record.detach();
    for (const record of [...this.#open]) record.abandon();
    this.#memory[Symbol.dispose]();
    this.#disposed = true;
  }
}
