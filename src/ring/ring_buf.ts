import { RingMemory } from "../ffi/ring_memory.ts";
import { watch } from "../loop/reactor.ts";
import { BpfMap } from "../maps/bpf_map.ts";
import type { MapHandle } from "../maps/handle.ts";
import { checkCount, checkOptions } from "../types/argument.ts";
import { describe } from "../types/refusal.ts";
import type { Type } from "../types/type.ts";
import { registerConsumer } from "./consumers.ts";
import { EventIterator } from "./event_iterator.ts";
import { type RawRecordCallback, RingReader } from "./reader.ts";
import { type RingBufOptions, type RingBufTypes, ringKind } from "./ring_kind.ts";

/** How much a synchronous drain takes. */
export interface DrainOptions {
  /** Records at the most: what is left stays in the ring. @default all that are there */
  readonly limit?: number;
}

/**
 * A ring buffer: programs write records of any length, one consumer reads them in order.
 *
 * Kernel 5.8. The kernel's pages are mapped and records are decoded from where they lie. Records that do not fit are lost
 * at the program's side, where the reserving helper returns NULL: count them there.
 *
 * One consumer at a time: `drain`, `drainRaw` or one asynchronous iteration. That goes for the ring, not for the object:
 * a second object for the same ring (`dup`, `open`, ...) on this thread is refused as well; another thread's or process's
 * is not noticed, and takes events away.
 *
 * @throws {BpfError} `EPERM` without CAP_BPF, `EINVAL` before kernel 5.8
 * @throws {TypeError | RangeError} for options that are misspelt, of the wrong type or out of range
 *
 * @example
 * ```ts
 * import { asm, Program, RingBuf, t } from "bun-bpf";
 * const { r0, r1, r2, r3, r4 } = asm;
 * using ring = new RingBuf({ size: 64 * 1024, event: t.struct({ value: t.u64n }) });
 * using program = new Program({
 *   section: "socket",
 *   license: "GPL",
 *   maps: { ring },
 *   code: [
 *     asm.stdw(asm.fp, -8, 42),
 *     asm.ldMap(r1, "ring"),
 *     asm.mov(r2, asm.fp),
 *     asm.add(r2, -8),
 *     asm.mov(r3, 8),
 *     asm.mov(r4, 0),
 *     asm.call("ringbuf_output"),
 *     asm.mov(r0, 0),
 *     asm.exit(),
 *   ],
 * });
 * program.testRun({ data: new Uint8Array(14) });
 * for await (const event of ring) {
 *   console.log(event.value); // 42
 *   break;
 * }
 * ```
 */
export class RingBuf<E> extends BpfMap implements AsyncIterable<E>, AsyncDisposable {
  /** @internal */
  static readonly kind = ringKind("ringbuf", "RingBuf");
  readonly #eventType: Type<E>;
  #reader: RingReader | undefined;
  #iterator: EventIterator<E> | undefined;

  constructor(options: RingBufOptions<E>);
  /** @internal */
  constructor(types: RingBufTypes<E>, existing: MapHandle);
  constructor(options: RingBufTypes<E>, existing = RingBuf.kind.create(options)) {
    super(existing);
    this.#eventType = options.event;
    try {
      // The size is the kernel's, not the caller's: this may be a ring that somebody else made.
      const what = `${this}`;
      this.#reader = new RingReader(new RingMemory(this.fd, this.size, what), this.size, what);
    } catch (error) {
      this.abandon(existing);
      throw error;
    }
  }

  /**
   * Opens the ring buffer pinned at a path on a BPF file system. Its size is asked of the kernel.
   *
   * @throws {TypeError} when it is another kind of map
   * @throws {Error} when nothing is pinned there
   */
  static open<E>(path: string, types: RingBufTypes<E>): RingBuf<E> {
    return new RingBuf(types, RingBuf.kind.open(path, types));
  }

  /** Opens a ring buffer by its id (CAP_SYS_ADMIN). @throws as {@link open} */
  static fromId<E>(id: number, types: RingBufTypes<E>): RingBuf<E> {
    return new RingBuf(types, RingBuf.kind.byId(id, types));
  }

  /** Opens the ring buffer behind a descriptor, which stays the caller's: this is a duplicate. @throws as {@link open} */
  static fromFd<E>(fd: number, types: RingBufTypes<E>): RingBuf<E> {
    return new RingBuf(types, RingBuf.kind.byFd(fd, types));
  }

  /** The layout that records are decoded with. */
  get types(): RingBufTypes<E> {
    return { event: this.#eventType };
  }

  /** The ring's size in bytes: `maxEntries`. */
  get size(): number {
    return this.maxEntries;
  }

  /** Bytes that wait in the ring now, headers and discarded records included. */
  get backlog(): number {
    return this.#liveReader().backlog;
  }

  /**
   * Calls `fn` with each event that is there, decoded; returns how many.
   *
   * When `fn` throws, the event that it was called with counts as delivered; those behind it stay in the ring.
   *
   * @throws {RangeError} for a record that is shorter than the event's type
   * @throws {Error} when the ring has another consumer already
   */
  drain(fn: (event: E) => void, options: DrainOptions = {}): number {
    checkCallback(fn);
    const type = this.#eventType;
    return this.drainRaw((view, offset, length) => {
      if (length < type.size) throw this.#tooShort(length);
      fn(type.read(view, offset));
    }, options);
  }

  /**
   * Calls `fn` with the place of each record that is there, without copying or allocating; returns how many.
   *
   * The view is the kernel's memory, read-only: a store to it ends the process. It is the same view every time, and the
   * record is valid during the call only: afterwards programs overwrite it.
   *
   * @throws {Error} when the ring has another consumer already
   *
   * @example
   * ```ts
   * import { RingBuf, t } from "bun-bpf";
   * using ring = new RingBuf({ size: 4096, event: t.u64 });
   * let bytes = 0;
   * ring.drainRaw((_view, _offset, length) => {
   *   bytes += length;
   * });
   * console.log(bytes); // 0
   * ```
   */
  drainRaw(fn: RawRecordCallback, options: DrainOptions = {}): number {
    checkOptions("drain", options, ["limit"]);
    const { limit = Number.MAX_SAFE_INTEGER } = options;
    checkCount("limit", limit, 1, Number.MAX_SAFE_INTEGER);
    checkCallback(fn);
    const reader = this.#liveReader();
    const end = registerConsumer(this.id, "drain", this);
    try {
      return reader.drain(fn, limit);
    } finally {
      end();
    }
  }

  /**
   * The events as they come, decoded one by one. The process stays alive while the loop waits; nothing runs meanwhile.
   *
   * Leaving the loop ends the iteration and keeps what was not delivered in the ring. Disposing of the ring ends it too.
   *
   * @throws {RangeError} for a record that is shorter than the event's type
   * @throws {Error} when the ring has another consumer already
   */
  [Symbol.asyncIterator](): AsyncIterableIterator<E> {
    const reader = this.#liveReader();
    const end = registerConsumer(this.id, "iteration", this);
    const type = this.#eventType;
    try {
      this.#iterator = new EventIterator(
        reader,
        (view, offset, length) => {
          if (length < type.size) throw this.#tooShort(length);
          return type.read(view, offset);
        },
        (onReady) => watch(() => this.fd, onReady),
        () => {
          this.#iterator = undefined;
          end();
        },
      );
    } catch (error) {
      end();
      throw error;
    }
    return this.#iterator;
  }

  override dup(): RingBuf<E> {
    return new RingBuf(this.types, this.duplicateHandle());
  }

  /**
   * Ends the iteration, releases what was delivered, detaches every view and closes the descriptor; a second call does
   * nothing.
   *
   * @throws {Error} while an asynchronous operation of Bun uses a view of the ring
   */
  override [Symbol.dispose](): void {
    const reader = this.#reader;
    if (reader === undefined) return;
    // First what may refuse, so that a refusal leaves all as it was.
    reader[Symbol.dispose]();
    this.#reader = undefined;
    this.#iterator?.finish();
    super[Symbol.dispose]();
  }

  /** The same as `Symbol.dispose`, for `await using`. */
  async [Symbol.asyncDispose](): Promise<void> {
    this[Symbol.dispose]();
  }

  #liveReader(): RingReader {
    if (this.#reader === undefined) throw this.descriptor.refusal();
    return this.#reader;
  }

  #tooShort(length: number): RangeError {
    const { name, size } = this.#eventType;
    return new RangeError(
      `a record of ${this} has ${length} bytes, but its event type ${name} takes ${size}`,
    );
  }
}

function checkCallback(fn: unknown): void {
  if (typeof fn === "function") return;
  throw new TypeError(`drain: expected a function, got ${describe(fn)}`);
}
