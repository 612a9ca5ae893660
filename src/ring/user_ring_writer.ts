import { type InspectArguments, inspectCustom, show } from "../check/describe.ts";
import { checkCount } from "../check/arguments.ts";
import { DisposedError } from "../ffi/error.ts";
import { loadPosition, type UserRingMemory } from "../ffi/ring_memory.ts";
import type { Type } from "../types/type.ts";
import { BPF_RINGBUF_BUSY_BIT, BPF_RINGBUF_DISCARD_BIT, BPF_RINGBUF_HDR_SZ } from "../uapi/bpf.ts";
import { lengthInRing } from "./reader.ts";

/**
 * A reserved record of a user ring buffer, from {@link UserRingBuf.reserve} or {@link UserRingBuf.reserveWhenFree}. Fill it,
 * then submit or discard it.
 *
 * Until then programs see neither this record nor records that were reserved after it. The bytes of the record are not
 * zeroed: they have the content of earlier records. With `using`, a record that was not submitted, for example because of an
 * exception, is discarded at the end of the block.
 *
 * After it was submitted or discarded, or the ring was disposed of, all members except `length`, `isOpen` and disposal throw an
 * error.
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
  /** The length of the record in bytes, without its header. */
  readonly length: number;
  /** True until the record is submitted or discarded, or the ring is disposed of. */
  readonly isOpen: boolean;
  /**
   * A writable view of the record in the memory of the ring. The first use of `view` or `bytes` creates an ArrayBuffer for
   * this record; {@link set} needs none.
   *
   * When the record is submitted or discarded, all views of its ArrayBuffer are detached: they have length 0 then, and cannot
   * access later records. Do not transfer the ArrayBuffer (`postMessage`, `buffer.transfer()`): its receiver could still access
   * later records, and the memory of the ring would stay mapped until the process ends.
   *
   * @throws {Error} if the record is not open.
   */
  readonly view: DataView<ArrayBuffer>;
  /**
   * The bytes of the record in the memory of the ring, over the same ArrayBuffer as {@link view}.
   *
   * @throws {Error} if the record is not open.
   */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /**
   * Encodes an event by the event type of the ring, from the start of the record on. Returns the record.
   *
   * @throws {TypeError | RangeError} if the type rejects the value; the record may have been written in part.
   * @throws {RangeError} if the record is shorter than the type.
   * @throws {Error} if the record is not open.
   */
  set(event: E): this;
  /**
   * Submits the record: programs can drain it.
   *
   * @throws {Error} if the record is not open.
   * @throws {Error} if an asynchronous operation of Bun uses a view of the record; it stays open then.
   */
  submit(): void;
  /**
   * Discards the record: programs skip it. Its room is free again after they have drained past it.
   *
   * @throws {Error} as {@link submit}.
   */
  discard(): void;
}

/** The implementation of {@link UserRecord}. */
export class ReservedRecord<E> implements UserRecord<E> {
  readonly length: number;
  /** The index in the array of the writer's open records. */
  index = 0;
  readonly #writer: UserRingWriter;
  readonly #type: Type<E>;
  /** The offset of the header in the data of the ring. */
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
        `a record of ${this.length} bytes is too short for its event type ${name}, which needs ${size}: reserve a longer one`,
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

  /** Detaches the views. The next access to one creates it again. */
  detach(): void {
    if (this.#part === undefined) return;
    if (!this.#writer.detachPart(this.#part)) {
      throw new Error(
        `a record of ${this.length} bytes cannot be submitted or disposed of yet: an asynchronous operation uses its memory; await that first`,
      );
    }
    this.#part = this.#view = this.#bytes = undefined;
  }

  /** Discards the record without detaching its views. */
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
    if (this.#writer.disposed) throw this.#writer.disposedError();
    throw new Error(
      this.#state === "encoding"
        ? "a record cannot be used while an event is being encoded into it"
        : `the record was ${this.#state} already and cannot be used any more: reserve another one`,
    );
  }

  [Symbol.dispose](): void {
    if (this.isOpen) this.discard();
  }
}

/** The memory that the producer of a user ring buffer shares with the kernel: `UserRingMemory`, or a fake in tests. */
export type SharedUserRing = Pick<UserRingMemory, keyof UserRingMemory>;

/** Counts of the records that were written to a user ring buffer, since the {@link UserRingBuf} object was created. */
export interface WriterStats {
  /** The number of submitted records. */
  readonly events: number;
  /** The number of bytes that reserved records took in the ring. Headers, padding and discarded records count. */
  readonly bytes: number;
  /** The number of records that were reserved and then discarded. */
  readonly discarded: number;
  /** The number of calls of `output` and `reserve` that failed because the ring had no room, or other calls waited for room. */
  readonly refused: number;
  /** The number of calls of `write` and `reserveWhenFree` that waited for room. */
  readonly waits: number;
  /** The number of times that the kernel woke the event loop because programs had drained records. */
  readonly wakeups: number;
  /** The number of times that waiting calls checked for room on a timer. */
  readonly polls: number;
  /** The number of bytes that programs have not drained yet. Headers, padding, and open and discarded records count. */
  readonly backlog: number;
}

/** The part of {@link WriterStats} that a writer counts. */
type WriterTotals = { -readonly [Name in "events" | "bytes" | "discarded" | "refused"]: number };

/** The largest length of a record in bytes: programs get it as a dynptr (DYNPTR_MAX_SIZE in kernel/bpf/helpers.c). */
const maxDynptrSize = 2 ** 24 - 1;
/** The largest value of `#room`, in bytes. Up to this value, the engine represents `#room` as an integer. */
const maxKnownRoom = 0x7fff_fff8;

/** The largest number of attempts to load consistent positions. */
const maxAttempts = 100;

/** The writer that is currently encoding an event in free room. Nested writers, of other rings, form a stack by `#outer`. */
let innermost: UserRingWriter | undefined;

/**
 * A writer of a user ring buffer: the producer's side of the protocol over the shared memory (kernel/bpf/ringbuf.c).
 *
 * Several writers of one ring on one thread are safe: each call reads the producer position from the ring, and no other code
 * of the thread runs between that load and the store. Writers on two threads or processes at the same time are not safe.
 * Such conflicts are detected in most cases, but not prevented.
 *
 * The order of memory accesses (on x86-64 only the engine's compilers could change it, and they move nothing across an atomic
 * operation):
 * - The bytes and the header of a record are stored before the position that publishes it to the kernel, or before the
 *   header that ends its busy state. The position and the header are stored by sequentially consistent atomic operations
 *   with release semantics (STLR, CASAL and similar instructions on arm64), which come after all earlier stores. The kernel
 *   loads both with acquire semantics. Only the lower half of the position is stored if the upper half does not change. A
 *   64-bit load sees either the old or the new position, as in the kernel's queued spin locks, which are released by the
 *   store of a byte and loaded as a word.
 * - The consumer position is loaded before the stores into the room that it released. All later accesses come after that load
 *   (`loadPosition`, with a fence on arm64), which pairs with the kernel's store-release of the position after a callback has
 *   read its record.
 */
export class UserRingWriter implements Disposable {
  readonly totals: WriterTotals = { events: 0, bytes: 0, discarded: 0, refused: 0 };
  readonly byteLength: number;
  /** The largest length of a record in bytes. */
  readonly maxLength: number;
  readonly #id: number;
  readonly #what: string;
  readonly #memory: SharedUserRing;
  readonly #mask: number;
  readonly #open: ReservedRecord<unknown>[] = [];
  /** The lower half of the producer position at the last access. */
  #position = 0;
  /** The known number of free bytes after `#position`. There can be more by now. */
  #room = 0;
  /** The writer that was already encoding when this writer began to encode an event. */
  #outer: UserRingWriter | undefined;
  #disposed = false;

  /**
   * @param memory owned by this object from now on
   * @param id the map id, which is the same for all writers of a ring
   */
  constructor(memory: SharedUserRing, byteLength: number, id: number, what: string) {
    this.#memory = memory;
    this.byteLength = byteLength;
    this.maxLength = Math.min(byteLength - BPF_RINGBUF_HDR_SZ, maxDynptrSize);
    this.#mask = byteLength - 1;
    this.#id = id;
    this.#what = what;
  }

  /**
   * The number of bytes that programs have not drained yet.
   *
   * @throws {Error} if the ring is corrupt: another process has changed the positions.
   */
  get backlog(): number {
    return this.byteLength - this.#readRoom();
  }

  /**
   * Checks the length of a record.
   *
   * @throws {RangeError} if the kernel does not accept such a record: it would block the ring forever.
   */
  checkLength(length: number): void {
    checkCount("length", length, 0, this.maxLength);
  }

  /**
   * Checks the size of an event type.
   *
   * @throws {RangeError} if it is larger than the largest record.
   */
  checkType<E>(type: Type<E>): void {
    if (type.size <= this.maxLength) return;
    throw new RangeError(
      `event: ${type.name} needs ${type.size} bytes, but a record of the ${this.#what} has at most ${this.maxLength}`,
    );
  }

  /**
   * Returns true if a record of `length` bytes can be written now.
   *
   * @throws {Error} if the ring is corrupt: another process has changed the positions.
   */
  hasRoomFor(length: number): boolean {
    return !this.#isEncoding() && this.#hasRoom(lengthInRing(length));
  }

  /**
   * Writes an event. Returns false if there is no room. If the type rejects the value, no record is written.
   *
   * @param type the event type, which {@link checkType} must have accepted
   */
  output<E>(type: Type<E>, event: E): boolean {
    this.#checkNotEncoding();
    const length = type.size;
    const total = lengthInRing(length);
    if (!this.#hasRoom(total)) return false;
    const at = this.#position & this.#mask;
    // The kernel does not read beyond the position, so the record needs no busy bit: it is complete when it is published.
    this.#encodeInRoom(type, at + BPF_RINGBUF_HDR_SZ, event);
    this.#claim(at, length, total);
    this.totals.events++;
    return true;
  }

  /** Writes a record with these bytes. Returns false if there is no room. */
  copy(bytes: Uint8Array): boolean {
    this.#checkNotEncoding();
    const { length } = bytes;
    const total = lengthInRing(length);
    if (!this.#hasRoom(total)) return false;
    const at = this.#position & this.#mask;
    this.#memory.bytes.set(bytes, at + BPF_RINGBUF_HDR_SZ);
    this.#claim(at, length, total);
    this.totals.events++;
    return true;
  }

  /** Reserves a record and returns its offset, or -1 if there is no room. The record blocks later ones until it is settled. */
  reserve(length: number): number {
    this.#checkNotEncoding();
    const total = lengthInRing(length);
    if (!this.#hasRoom(total)) return -1;
    const at = this.#position & this.#mask;
    this.#claim(at, length | BPF_RINGBUF_BUSY_BIT, total);
    return at;
  }

  /** Adds an open record, which disposal of the writer discards unless it is settled before. */
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
      throw this.#disposed ? this.disposedError() : error;
    }
    if (this.#disposed) throw this.disposedError();
  }

  /** Returns an ArrayBuffer over the bytes of a reserved record. */
  part(at: number, length: number): ArrayBuffer {
    return this.#memory.part(at + BPF_RINGBUF_HDR_SZ, length);
  }

  /**
   * Detaches the views of an ArrayBuffer from {@link part}. Returns false if an asynchronous operation of Bun uses a view.
   */
  detachPart(part: ArrayBuffer): boolean {
    return this.#memory.detachPart(part);
  }

  get disposed(): boolean {
    return this.#disposed;
  }

  /** Returns the error for a use after disposal. */
  disposedError(): DisposedError {
    return new DisposedError(this.#what);
  }

  #encodeInRoom<E>(type: Type<E>, offset: number, event: E): void {
    this.#outer = innermost;
    innermost = this;
    try {
      type.write(this.#memory.data, offset, event);
    } catch (error) {
      throw this.#disposed ? this.disposedError() : error;
    } finally {
      innermost = this.#outer;
      this.#outer = undefined;
    }
    if (this.#disposed) throw this.disposedError();
  }

  /**
   * Checks that no event is being encoded in the room where the next record would be.
   *
   * @throws {Error} if this is called by the code of such an event (a getter, or a function of a custom type).
   */
  #checkNotEncoding(): void {
    if (innermost === undefined || !this.#isEncoding()) return;
    throw new Error(
      `no record can be written to ${this.#what} while an event is being encoded for it: write it before or after that event`,
    );
  }

  /** Returns true if an event is being encoded in the room of this ring, by this object or another one for the same ring. */
  #isEncoding(): boolean {
    for (let writer = innermost; writer !== undefined; writer = writer.#outer) {
      if (writer.#id === this.#id) return true;
    }
    return false;
  }

  #hasRoom(total: number): boolean {
    // Another object for the same ring may have written meanwhile.
    const isCurrent = this.#memory.producerHalves[0] === this.#position;
    return (isCurrent && total <= this.#room) || total <= this.#readRoom();
  }

  /** Reads the positions and returns the number of free bytes. */
  #readRoom(attempt = 1): number {
    const { consumer, producer } = this.#memory;
    // The consumer position is loaded first, because it never exceeds a producer position that is loaded later.
    const end = loadPosition(consumer, 0);
    const start = Number(Atomics.load(producer, 0));
    const room = this.byteLength - (start - end);
    if (
      room < 0 ||
      room > this.byteLength ||
      (start | end) & 7 ||
      start > Number.MAX_SAFE_INTEGER
    ) {
      // A second writer can have filled drained room between the two loads.
      if (attempt < maxAttempts) return this.#readRoom(attempt + 1);
      throw new Error(
        `${this.#what} is corrupt: programs have drained up to position ${end} of ${start}, in a ring of ${this.byteLength} bytes; was its memory changed by another process?`,
      );
    }
    this.#position = start | 0;
    this.#room = Math.min(room, maxKnownRoom) | 0;
    return room;
  }

  /**
   * Publishes a record of `total` bytes with this header to the kernel.
   *
   * A second writer may publish a record at the same moment. The writer that cannot move the position restores the header
   * that it found, because a wrong length there would block the ring forever. A program that drains within the nanoseconds
   * in between can still read the wrong header. A busy header would prevent that, but doubles the time of `output`.
   *
   * @throws {Error} if another thread or process has written to the ring.
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

  /** Moves the producer position forward. Returns false if another writer has moved it. */
  #advance(total: number): boolean {
    const { producerHalves, producer } = this.#memory;
    const before = this.#position;
    const after = (before + total) | 0;
    let isAlone: boolean;
    if (before < 0 && after >= 0) {
      // Both halves change: this happens once in 4 GiB.
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
   * Discards open records and unmaps the memory. A second call does nothing.
   *
   * @throws {Error} if an asynchronous operation of Bun uses a view of a record; the ring stays usable then.
   */
  [Symbol.dispose](): void {
    if (this.#disposed) return;
    for (const record of this.#open) record.detach();
    for (const record of [...this.#open]) record.abandon();
    this.#memory[Symbol.dispose]();
    this.#disposed = true;
  }
}
