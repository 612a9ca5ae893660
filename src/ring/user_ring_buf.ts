import { USER_RINGBUF } from "../maps/map_types.ts";
import { checkCount } from "../check/arguments.ts";
import { UserRingMemory } from "../ffi/ring_memory.ts";
import { startTurn } from "../loop/timers.ts";
import { BpfMap } from "../maps/bpf_map.ts";
import type { AnyType, TypeIn } from "../maps/map_options.ts";
import { type Infer, type Type, withFixedSize } from "../types/type.ts";
import {
  type RingBufOptions,
  type RingBufTypes,
  ringKind,
  signalOf,
  type WaitForRoomOptions,
  type WritableOptions,
} from "./ring_options.ts";
import { RoomQueue, roomSignal } from "./room_queue.ts";
import {
  ReservedRecord,
  type UserRecord,
  UserRingWriter,
  type WriterStats,
} from "./user_ring_writer.ts";

declare module "../maps/map_options.ts" {
  interface MapClasses<T> {
    UserRingBuf: UserRingBuf<TypeIn<T, "event">>;
  }
}

/** The ring that a stream writes to. */
interface RecordSink<E> {
  write(event: E, options: { readonly signal: AbortSignal }): Promise<void>;
}

/** A stream's controller with the signal that it has but its declaration lacks. */
type Controller = WritableStreamDefaultController & { readonly signal: AbortSignal };

/** A web stream of events into a ring: it takes as many as the ring has room for. */
function writableStream<E>(
  ring: RecordSink<E>,
  signal: AbortSignal | undefined,
  highWaterMark: number,
): WritableStream<E> {
  let stop: AbortSignal;
  let onAbort = (): void => {};
  return new WritableStream<E>(
    {
      start(controller) {
        // Aborted by the stream's own abort(), which a write that waits for room would hold up.
        stop = (controller as Controller).signal;
        if (signal === undefined) return;
        onAbort = () => controller.error(signal.reason);
        if (signal.aborted) onAbort();
        else signal.addEventListener("abort", onAbort, { once: true });
        stop = AbortSignal.any([stop, signal]);
      },
      async write(event) {
        try {
          await ring.write(event, { signal: stop });
        } catch (error) {
          signal?.removeEventListener("abort", onAbort);
          throw error;
        }
      },
      close: () => signal?.removeEventListener("abort", onAbort),
      abort: () => signal?.removeEventListener("abort", onAbort),
    },
    { highWaterMark },
  );
}

/** After so many records without a wait, timers and I/O get their turn. */
const recordsPerTurn = 1024;

/** A ring that is written to. */
interface Writing {
  readonly writer: UserRingWriter;
  readonly queue: RoomQueue;
}

/**
 * A user ring buffer: records of any length from user space, which programs drain in order with the helper
 * `user_ringbuf_drain`.
 *
 * Kernel 6.1. The kernel's pages are mapped by the first call that needs them, and records are encoded where they lie.
 * Programs see a record as soon as it is submitted, but none that was reserved after one which is still open.
 *
 * Where there is no room, `output` and `reserve` return at once, and `write` and `reserveWhenFree` wait until programs have
 * drained enough. Waiting calls are served in order, and before calls that do not wait: `output` then returns false
 * although its record might fit. A program that drains wakes them. A drain with `BPF_RB_NO_WAKEUP` is noticed within 50 ms.
 *
 * Only one thread of one process may write, as the kernel supports one producer. That thread may have several objects for
 * one ring (`dup`, `open`, ...). If two writers write at the same moment, one of them gets an error and can go on; the record of
 * the other may be corrupted.
 *
 * @throws {BpfError} `EPERM` without CAP_BPF, `EINVAL` before kernel 6.1
 * @throws {TypeError | RangeError} for options that are misspelt, of the wrong type or out of range
 *
 * @example
 * ```ts
 * import { asm, Program, t, UserRingBuf } from "bun-bpf";
 * const { r0, r1, r2, r3, r4 } = asm;
 * using commands = new UserRingBuf({ size: 4096, event: t.struct({ pid: t.u32, level: t.u32 }) });
 * using program = new Program({
 *   section: "syscall",
 *   license: "GPL",
 *   maps: { commands },
 *   code: [
 *     asm.ldMap(r1, "commands"),
 *     asm.ldFunc(r2, "each"),
 *     asm.mov(r3, asm.fp),
 *     asm.mov(r4, 0),
 *     asm.call("user_ringbuf_drain"),
 *     asm.exit(),
 *     asm.func("each"), // r1: the record, as a dynptr
 *     asm.mov(r0, 0),
 *     asm.exit(),
 *   ],
 * });
 * console.log(commands.output({ pid: 1, level: 3 })); // true
 * await commands.write({ pid: 2, level: 1 });
 * console.log(commands.backlog); // 32
 * console.log(program.testRun().returnValue, commands.backlog); // 2 0
 * ```
 */
export class UserRingBuf<E extends AnyType> extends BpfMap<"user_ringbuf"> {
  static readonly kind = /*@__PURE__*/ ringKind(USER_RINGBUF, "UserRingBuf", 2 ** 31);
  /** The layout of a record. */
  readonly types: RingBufTypes<E>;
  readonly #event: Type<Infer<E>>;
  #writing: Writing | undefined;
  #isReferenced = true;
  #sinceTurn = 0;

  constructor(options: RingBufOptions<E>) {
    const handle = UserRingBuf.kind.handle<RingBufTypes<E>>(options);
    super(handle);
    this.types = handle.types;
    this.#event = withFixedSize(handle.types.event as Type<Infer<E>>);
  }

  /** The ring's size in bytes: `maxEntries`. */
  get byteLength(): number {
    return this.maxEntries;
  }

  /** Bytes that programs have yet to drain: headers, padding, and open or discarded records included. */
  get backlog(): number {
    return this.#live.writer.backlog;
  }

  /** Counts of the records that this object wrote. */
  get stats(): WriterStats {
    const { writer, queue } = this.#live;
    const { waits, wakeups, polls } = queue;
    return { ...writer.totals, waits, wakeups, polls, backlog: writer.backlog };
  }

  /**
   * Writes an event; false when the ring is full. A value that the type refuses leaves nothing in the ring.
   *
   * @throws {TypeError | RangeError} for a value that the type refuses
   * @throws {RangeError} when the type takes more than a record can have: the ring's size less 8 bytes, or 2^24 - 1
   * @throws {BpfError} at the first use, `EPERM` when the ring is frozen
   * @throws {Error} when the event's own code (a getter, a type's function) writes to the ring as well, or another thread or
   *   process was found to
   *
   * @example
   * ```ts
   * import { t, UserRingBuf } from "bun-bpf";
   * using ring = new UserRingBuf({ size: 4096, event: t.u64Number });
   * let count = 0;
   * while (ring.output(count)) count++;
   * console.log(count, ring.stats.refused); // 256 1
   * ```
   */
  output(event: Infer<E>): boolean {
    const { writer, queue } = this.#live;
    const type = this.#event;
    writer.checkType(type);
    if (!queue.serve() && writer.output(type, event)) return true;
    writer.totals.refused++;
    return false;
  }

  /**
   * Reserves a record of `length` bytes, by default those of the event's type; `undefined` when there is no room. See
   * {@link UserRecord}.
   *
   * There may be several open records, submitted in any order: programs see them in the order of their reservation. An open
   * record blocks those after it, also those of other objects for the ring; disposal of the ring discards it. Where a process
   * ends without that, the ring stays blocked.
   *
   * @throws {RangeError} for a length that is not an integer from 0 to the ring's size less 8 bytes, or to 2^24 - 1
   * @throws {BpfError | Error} as {@link output}
   *
   * @example
   * ```ts
   * import { t, UserRingBuf } from "bun-bpf";
   * using ring = new UserRingBuf({ size: 4096, event: t.struct({ pid: t.u32, level: t.u32 }) });
   * using record = ring.reserve();
   * record?.set({ pid: 1, level: 3 }).submit();
   * using given = ring.reserve(100);
   * given?.bytes.fill(7);
   * given?.discard();
   * console.log(ring.stats.events, ring.stats.discarded); // 1 1
   * ```
   */
  reserve(length: number = this.#event.size): UserRecord<Infer<E>> | undefined {
    const { writer, queue } = this.#live;
    writer.checkLength(length);
    const record = queue.serve() ? undefined : this.#reserve(writer, length);
    if (record === undefined) writer.totals.refused++;
    return record;
  }

  /**
   * Writes an event as soon as there is room. A value is checked, and encoded, when this is called.
   *
   * The process stays alive for it: see {@link unref}. The first wait of a ring opens what wakes the event loop, which stays
   * open until the ring is disposed of.
   *
   * @throws as {@link output}, here as in all that follows by rejecting the promise
   * @throws the signal's reason when that aborts first: nothing was written
   * @throws {DisposedError} when the ring is disposed of first
   *
   * @example
   * ```ts
   * import { t, UserRingBuf } from "bun-bpf";
   * using ring = new UserRingBuf({ size: 4096, event: t.bytes(2048) });
   * await ring.write(new Uint8Array(2048));
   * try {
   *   await ring.write(new Uint8Array(2048), { signal: AbortSignal.timeout(10) });
   * } catch (error) {
   *   console.log((error as Error).name); // TimeoutError
   * }
   * ```
   */
  async write(event: Infer<E>, options: WaitForRoomOptions = {}): Promise<void> {
    const signal = signalOf("write", options);
    signal?.throwIfAborted();
    const { writer, queue } = this.#live;
    const type = this.#event;
    writer.checkType(type);
    if (!queue.serve() && writer.output(type, event)) return await this.#giveTurn();
    const bytes = new Uint8Array(type.size);
    type.write(new DataView(bytes.buffer), 0, event);
    await queue.wait(bytes.length, () => writer.copy(bytes), signal);
  }

  /**
   * Reserves a record as soon as there is room: like {@link reserve}, but waits.
   *
   * @throws as {@link reserve}, and as {@link write} when the wait ends otherwise
   *
   * @example
   * ```ts
   * import { t, UserRingBuf } from "bun-bpf";
   * using ring = new UserRingBuf({ size: 4096, event: t.u64Number });
   * using record = await ring.reserveWhenFree();
   * record.set(42).submit();
   * console.log(ring.stats.events); // 1
   * ```
   */
  async reserveWhenFree(
    length: number = this.#event.size,
    options: WaitForRoomOptions = {},
  ): Promise<UserRecord<Infer<E>>> {
    const signal = signalOf("reserveWhenFree", options);
    signal?.throwIfAborted();
    const { writer, queue } = this.#live;
    writer.checkLength(length);
    const record = queue.serve() ? undefined : this.#reserve(writer, length);
    if (record !== undefined) {
      await this.#giveTurn();
      return record;
    }
    const take = () => this.#reserve(writer, length) as UserRecord<Infer<E>>;
    return await queue.wait(length, take, signal);
  }

  /**
   * A web stream into the ring: each event is written as by {@link write}, one after another, so that whoever writes to the
   * stream is held back while the ring is full.
   *
   * A value that the type refuses errors the stream. Aborting the stream, the signal and the disposal of the ring end a write
   * that waits; what the ring has taken by then, programs get.
   *
   * @throws {TypeError | RangeError} for options that are misspelt, of the wrong type or out of range
   *
   * @example
   * ```ts
   * import { t, UserRingBuf } from "bun-bpf";
   * using ring = new UserRingBuf({ size: 4096, event: t.u32 });
   * const writer = ring.writable().getWriter();
   * for (const value of [1, 2, 3]) await writer.write(value);
   * await writer.close();
   * console.log(ring.stats.events); // 3
   * ```
   */
  writable(options: WritableOptions = {}): WritableStream<Infer<E>> {
    const signal = signalOf("writable", options, ["highWaterMark"]);
    const { highWaterMark = 1 } = options;
    checkCount("highWaterMark", highWaterMark, 1);
    void this.fd;
    return writableStream(this, signal, highWaterMark);
  }

  /** Makes waits for room keep the process alive, as they do by default. */
  ref(): this {
    return this.#keepAlive(true);
  }

  /** Lets the process end although somebody waits for room. */
  unref(): this {
    return this.#keepAlive(false);
  }

  /**
   * Discards the records that are still open, ends all waits, detaches every view and closes the descriptor; a second call
   * does nothing.
   *
   * @throws {Error} while an asynchronous operation of Bun uses the view of a record: all goes on then, but for other open
   *   records' views, which have to be asked for anew
   */
  override [Symbol.dispose](): void {
    const writing = this.#writing;
    // First what may refuse, so that a refusal leaves all as it was.
    writing?.writer[Symbol.dispose]();
    this.#writing = undefined;
    writing?.queue[Symbol.dispose]();
    super[Symbol.dispose]();
  }

  /** @throws {DisposedError} after disposal */
  get #live(): Writing {
    return this.#writing ?? this.#begin();
  }

  #begin(): Writing {
    const { fd, byteLength, id } = this;
    const what = `${this}`;
    const memory = new UserRingMemory(fd, byteLength, what);
    const writer = new UserRingWriter(memory, byteLength, id, what);
    const queue = new RoomQueue(writer, (onRoom) => roomSignal(fd, what, onRoom));
    queue.keepAlive(this.#isReferenced);
    this.#writing = { writer, queue };
    return this.#writing;
  }

  #reserve(writer: UserRingWriter, length: number): UserRecord<Infer<E>> | undefined {
    const at = writer.reserve(length);
    return at < 0 ? undefined : new ReservedRecord(writer, this.#event, at, length);
  }

  /** A loop that writes as fast as programs drain would otherwise never end for anybody else. */
  async #giveTurn(): Promise<void> {
    if (++this.#sinceTurn < recordsPerTurn) return;
    this.#sinceTurn = 0;
    await new Promise<void>((resolve) => startTurn(resolve));
  }

  #keepAlive(alive: boolean): this {
    this.#isReferenced = alive;
    this.#writing?.queue.keepAlive(alive);
    return this;
  }
}
