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

/** The part of a ring that {@link writableStream} uses. */
interface RecordSink<E> {
  write(event: E, options: { readonly signal: AbortSignal }): Promise<void>;
}

/** The controller of a stream, with a property that its TypeScript declaration lacks. */
type Controller = WritableStreamDefaultController & { readonly signal: AbortSignal };

/** Returns a web stream that writes events to a ring, as fast as the ring has room. */
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
        // abort() of the stream aborts this signal at once, but calls `abort` below only after a waiting write has ended.
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

/** The number of records without a wait after which `write` and `reserveWhenFree` let timers and I/O run. */
const recordsPerTurn = 1024;

/** The state of a ring whose memory is mapped. */
interface WriterState {
  readonly writer: UserRingWriter;
  readonly queue: RoomQueue;
}

/**
 * A user ring buffer (`BPF_MAP_TYPE_USER_RINGBUF`): user space writes records of any length, and programs drain them in order
 * with the helper `user_ringbuf_drain`.
 *
 * The first call that needs the memory of the ring maps it. Records are encoded in place, and writing a record takes no
 * system call. Programs can drain a record as soon as it is submitted, but not before records that were reserved earlier.
 *
 * If there is no room, `output` and `reserve` return at once; `write` and `reserveWhenFree` wait until programs have drained
 * enough. Waiting calls are served in order, and before calls that do not wait: `output` then returns false even if its record
 * would fit. A program that drains wakes waiting calls; a drain with `BPF_RB_NO_WAKEUP` is detected within 50 ms.
 * `stats.refused` counts the records of `output` and `reserve` for which there was no room.
 *
 * Only one thread of one process may write, because the kernel supports one producer. That thread may have several objects for
 * one ring (`dup`, `open`, ...). If two threads or processes write at the same moment, one of them gets an error and can
 * continue; the record of the other may be corrupted.
 *
 * @throws {BpfError} EPERM if CAP_BPF is missing.
 * @throws {BpfError} EINVAL before Linux 6.1.
 * @throws {TypeError | RangeError} if an option is misspelt, of the wrong type or out of range.
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
 *
 * Requires Linux 6.1.
 */
export class UserRingBuf<E extends AnyType> extends BpfMap<"user_ringbuf"> {
  /** Definition of this class: its map type and options. */
  static readonly kind = /*@__PURE__*/ ringKind(USER_RINGBUF, "UserRingBuf", 2 ** 31);
  /** The type that encodes records. */
  readonly types: RingBufTypes<E>;
  readonly #event: Type<Infer<E>>;
  #state: WriterState | undefined;
  #isReferenced = true;
  #recordsInTurn = 0;

  /** Creates the ring, or opens the one that is pinned at the path of the option `pin`. */
  constructor(options: RingBufOptions<E>) {
    const handle = UserRingBuf.kind.handle<RingBufTypes<E>>(options);
    super(handle);
    this.types = handle.types;
    this.#event = withFixedSize(handle.types.event as Type<Infer<E>>);
  }

  /** The size of the ring in bytes; the same as `maxEntries`. */
  get byteLength(): number {
    return this.maxEntries;
  }

  /**
   * The number of bytes that programs have not drained yet. Headers, padding, and open and discarded records count.
   *
   * @throws {BpfError} EPERM if the ring is frozen.
   * @throws {DisposedError} after disposal.
   */
  get backlog(): number {
    return this.#live.writer.backlog;
  }

  /**
   * Counts of the records that this object wrote, and of its waits.
   *
   * @throws {BpfError} EPERM if the ring is frozen.
   * @throws {DisposedError} after disposal.
   */
  get stats(): WriterStats {
    const { writer, queue } = this.#live;
    const { waits, wakeups, polls } = queue;
    return { ...writer.totals, waits, wakeups, polls, backlog: writer.backlog };
  }

  /**
   * Writes an event if the ring has room for it. Returns false if there is no room, or if other calls wait for room.
   *
   * If the type rejects the value, no record is written.
   *
   * @throws {TypeError | RangeError} if the type rejects the value.
   * @throws {RangeError} if the event type is larger than a record can be: the size of the ring minus 8 bytes, at most 2^24 - 1.
   * @throws {BpfError} EPERM if the ring is frozen.
   * @throws {Error} if the event writes to the same ring while it is encoded (in a getter, or a function of a custom type).
   * @throws {Error} if another thread or process has written to the ring at the same time.
   * @throws {DisposedError} after disposal.
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
   * Reserves a {@link UserRecord} of `length` bytes, to be filled in place and then submitted or discarded. Returns `undefined`
   * if the ring has no room for it, or if other calls wait for room.
   *
   * Several records can be open at a time and be submitted in any order: programs drain them in the order of their
   * reservation. An open record blocks all later ones, even those that other objects for the ring have reserved. Disposal of
   * the ring discards open records. If a process ends without disposal, the ring stays blocked.
   *
   * @param length the length in bytes: an integer from 0 to the size of the ring minus 8, at most 2^24 - 1. By default the size
   * of the event type.
   * @throws {RangeError} if the length is out of range.
   * @throws {BpfError} EPERM if the ring is frozen.
   * @throws {Error} if the code of an event that is being encoded for the same ring calls this method.
   * @throws {Error} if another thread or process has written to the ring at the same time.
   * @throws {DisposedError} after disposal.
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
   * Writes an event as soon as the ring has room for it. The returned promise resolves after the event is written.
   *
   * The value is checked and encoded during the call, not after the wait. A wait keeps the process alive ({@link unref} changes
   * that). The first wait opens a descriptor that wakes the event loop; it is closed when the ring is disposed of. All errors
   * reject the promise.
   *
   * @throws {TypeError | RangeError | BpfError | Error} as {@link output}.
   * @throws the reason of the signal if the signal aborts first; nothing is written then.
   * @throws {DisposedError} if the ring is disposed of, before the call or during the wait.
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
    if (!queue.serve() && writer.output(type, event)) return await this.#yieldTurn();
    const bytes = new Uint8Array(type.size);
    type.write(new DataView(bytes.buffer), 0, event);
    await queue.wait(bytes.length, () => writer.copy(bytes), signal);
  }

  /**
   * Reserves a record as soon as the ring has room for it. The promise resolves with the {@link UserRecord}. Apart from the
   * wait, the method works as {@link reserve}. The wait works as in {@link write}. All errors reject the promise.
   *
   * @throws {RangeError | BpfError | Error} as {@link reserve}.
   * @throws the reason of the signal if the signal aborts first; nothing is reserved then.
   * @throws {DisposedError} if the ring is disposed of, before the call or during the wait.
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
      await this.#yieldTurn();
      return record;
    }
    const take = () => this.#reserve(writer, length) as UserRecord<Infer<E>>;
    return await queue.wait(length, take, signal);
  }

  /**
   * Returns a web stream that writes each event to the ring, as {@link write} does. The stream has backpressure while the ring
   * is full.
   *
   * A value that the type rejects errors the stream. An abort of the stream or of the signal, and disposal of the ring, end a
   * waiting write. Events that were written before stay in the ring.
   *
   * @throws {TypeError | RangeError} if an option is misspelt, of the wrong type or out of range.
   * @throws {DisposedError} after disposal.
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
    // Throws after disposal.
    void this.fd;
    return writableStream(this, signal, highWaterMark);
  }

  /** Makes waits for room keep the process alive. This is the default. */
  ref(): this {
    return this.#keepAlive(true);
  }

  /** Allows the process to end while calls wait for room. */
  unref(): this {
    return this.#keepAlive(false);
  }

  /**
   * Discards open records, rejects waiting calls with a {@link DisposedError}, detaches all views of records and closes the
   * descriptor. A second call does nothing. Submitted records stay in the ring.
   *
   * @throws {Error} if an asynchronous operation of Bun uses a view of a record. The ring stays usable then, but views of other
   * open records may be detached: read `view` or `bytes` again.
   */
  override [Symbol.dispose](): void {
    const state = this.#state;
    // Disposal of the writer may throw, so it comes first: nothing else has changed then.
    state?.writer[Symbol.dispose]();
    this.#state = undefined;
    state?.queue[Symbol.dispose]();
    super[Symbol.dispose]();
  }

  /**
   * The state of the ring, which the first access creates.
   *
   * @throws {DisposedError} after disposal.
   */
  get #live(): WriterState {
    return this.#state ?? this.#mapMemory();
  }

  #mapMemory(): WriterState {
    const { fd, byteLength, id } = this;
    const what = `${this}`;
    const memory = new UserRingMemory(fd, byteLength, what);
    const writer = new UserRingWriter(memory, byteLength, id, what);
    const queue = new RoomQueue(writer, (onRoom) => roomSignal(fd, what, onRoom));
    queue.keepAlive(this.#isReferenced);
    this.#state = { writer, queue };
    return this.#state;
  }

  #reserve(writer: UserRingWriter, length: number): UserRecord<Infer<E>> | undefined {
    const at = writer.reserve(length);
    return at < 0 ? undefined : new ReservedRecord(writer, this.#event, at, length);
  }

  /**
   * Waits for the next turn of the event loop after {@link recordsPerTurn} records. A loop of writes would otherwise block
   * timers and I/O.
   */
  async #yieldTurn(): Promise<void> {
    if (++this.#recordsInTurn < recordsPerTurn) return;
    this.#recordsInTurn = 0;
    await new Promise<void>((resolve) => startTurn(resolve));
  }

  #keepAlive(alive: boolean): this {
    this.#isReferenced = alive;
    this.#state?.queue.keepAlive(alive);
    return this;
  }
}
