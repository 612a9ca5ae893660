import { RINGBUF } from "../maps/map_types.ts";
import { RingMemory } from "../ffi/ring_memory.ts";
import { PerCpuArrayMap } from "../maps/array_map.ts";
import type { AnyType, TypeIn } from "../maps/map_options.ts";
import { u64Number } from "../types/integer.ts";
import type { Infer, IntegerType, Type } from "../types/type.ts";
import { BPF_F_RB_OVERWRITE, BPF_OBJ_NAME_LEN } from "../uapi/bpf.ts";
import { EventBuffer } from "./event_buffer.ts";
import { RingReader, SnapshotRing } from "./reader.ts";
import { type RingBufOptions, type RingBufTypes, ringKind } from "./ring_options.ts";

declare module "../maps/map_options.ts" {
  interface MapClasses<T> {
    RingBuf: RingBuf<TypeIn<T, "event">>;
  }
}

/** The loss counters of the rings that this thread has open, by map id. */
const counters = new Map<number, LossCounter>();

/**
 * Counter of the lost events of one ring. All objects of this thread for the ring share the counter, so all report the same
 * count.
 */
class LossCounter {
  readonly #id: number;
  #objects = 0;
  #map: PerCpuArrayMap<typeof u64Number> | undefined;

  private constructor(id: number) {
    this.#id = id;
    counters.set(id, this);
  }

  /** Returns the counter of a ring and adds a reference to it. The caller must call {@link release} once. */
  static acquire(id: number): LossCounter {
    const counter = counters.get(id) ?? new LossCounter(id);
    counter.#objects++;
    return counter;
  }

  /** Returns the map of the counter. The first call creates it. */
  map(ringName: string): PerCpuArrayMap<typeof u64Number> {
    const suffix = "_lost";
    const name = ringName.slice(0, BPF_OBJ_NAME_LEN - 1 - suffix.length) + suffix;
    this.#map ??= new PerCpuArrayMap({ value: u64Number, length: 1, name });
    return this.#map;
  }

  /** The number of lost events on all CPUs; 0 if the map was never created. */
  get total(): number {
    return this.#map?.sum(0) ?? 0;
  }

  /** Drops a reference. The last one closes the map. */
  release(): void {
    if (--this.#objects > 0) return;
    counters.delete(this.#id);
    this.#map?.[Symbol.dispose]();
  }
}

/**
 * A ring buffer (`BPF_MAP_TYPE_RINGBUF`): programs on all CPUs write records of any length, and one consumer reads them in the
 * order in which they were reserved.
 *
 * The consuming methods are those of {@link EventBuffer}. The constructor maps the memory of the ring: reading a record takes
 * no system call, and records are decoded, or read, in place.
 *
 * A record for which the ring has no room is lost: the helper returns NULL or an error to the program. The kernel does not
 * count such records. Programs that use `asm.reserveOrCount()` or `asm.outputOrCount()` count them, and `stats.lost` is the
 * count.
 *
 * With the flag `"rb_overwrite"` (Linux 6.19), new records overwrite the oldest ones, even if those were not read: a flight
 * recorder. Records are then copied before they are decoded. `stats.overwrittenBytes` counts the bytes that were overwritten
 * unread; the number of those records is unknown. Such a ring wakes its consumer like any other. To avoid these wake-ups, write
 * the records with `BPF_RB_NO_WAKEUP`.
 *
 * A ring has one consumer at a time, even if this thread has several objects for it (`dup`, `open`, ...): a second consumer
 * gets an error. A consumer in another thread or process cannot be detected, because the kernel does not coordinate
 * consumers. Then each consumer gets a part of the events, and both get the events that they read at the same time. In rare
 * cases an event is missing or has the bytes of a newer one.
 *
 * @throws {BpfError} EPERM if CAP_BPF is missing.
 * @throws {BpfError} EINVAL before Linux 5.8.
 * @throws {TypeError | RangeError} if an option is misspelt, of the wrong type or out of range.
 *
 * @example
 * ```ts
 * import { asm, Program, RingBuf, t } from "bun-bpf";
 * const { r0, r1, r2, r3, r4 } = asm;
 * using ring = new RingBuf({ size: 64 * 1024, event: t.struct({ value: t.u64Number }) });
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
 *
 * Requires Linux 5.8.
 */
export class RingBuf<E extends AnyType> extends EventBuffer<Infer<E>> {
  /** Definition of this class: its map type and options. */
  static readonly kind = /*@__PURE__*/ ringKind(RINGBUF, "RingBuf", 2 ** 30);
  readonly #losses: LossCounter;

  /** Creates the ring, or opens the one that is pinned at the path of the option `pin`, and maps it. */
  constructor(options: RingBufOptions<E>) {
    const handle = RingBuf.kind.handle<RingBufTypes<E>>(options);
    super(handle, handle.types.event as Type<Infer<E>>, (map) => {
      // The options lack the size if the ring was opened.
      const size = map.maxEntries;
      const memory = new RingMemory(map.fd, size, `${map}`);
      if ((map.flags & BPF_F_RB_OVERWRITE) === 0) return new RingReader(memory, size, `${map}`);
      try {
        return new RingReader(new SnapshotRing(memory, size), size, `${map}`);
      } catch (error) {
        memory[Symbol.dispose]();
        throw error;
      }
    });
    this.#losses = LossCounter.acquire(this.id);
  }

  /** The size of the ring in bytes; the same as `maxEntries`. */
  get byteLength(): number {
    return this.maxEntries;
  }

  /**
   * The per-CPU array in which programs count lost events of this ring: `asm.reserveOrCount()`, `asm.outputOrCount()` and
   * `asm.countLost()` increment entry 0. `stats.lost` is its sum over all CPUs.
   *
   * The map is created with a count of 0 at the first use: when this property is read, or when a program that counts is
   * loaded. All objects of this thread for the ring (`dup`, `open`, ...) share the map. Do not dispose of the map: it is
   * closed together with the last of these objects.
   *
   * Other threads and processes that open the ring have separate counters, because the kernel does not link the two maps. To
   * share a counter, pin it next to the ring, and load the programs with the counter as the map `"events.lost"` if the ring is
   * the map `"events"`.
   *
   * @throws {DisposedError} after disposal.
   * @throws {BpfError} if the map cannot be created, as the constructor of {@link PerCpuArrayMap}.
   *
   * @example
   * ```ts
   * import { asm, Program, RingBuf, t } from "bun-bpf";
   * using events = new RingBuf({ size: 4096, event: t.u64Number });
   * using program = new Program({
   *   section: "socket",
   *   license: "GPL",
   *   maps: { events },
   *   code: [
   *     asm.reserveOrCount("events", 5000, "out", { stack: -8 }), // more than the ring holds
   *     asm.mov(asm.r1, asm.r0),
   *     asm.mov(asm.r2, 0),
   *     asm.call("ringbuf_discard"),
   *     asm.label("out"),
   *     asm.mov(asm.r0, 0),
   *     asm.exit(),
   *   ],
   * });
   * program.testRun({ data: new Uint8Array(14), repeat: 10 });
   * console.log(events.lost.sum(0)); // 10
   * ```
   */
  get lost(): PerCpuArrayMap<IntegerType<number>> {
    // Throws after disposal.
    void this.fd;
    return this.#losses.map(this.name);
  }

  /**
   * Ends the consumer, releases delivered records, detaches every view of the ring and closes the descriptor. A second call
   * does nothing. A waiting iteration ends; undelivered events stay in the ring for other objects that have it open.
   *
   * @throws {Error} if an asynchronous operation of Bun uses a view of the ring; nothing has changed then.
   */
  override [Symbol.dispose](): void {
    if (this.disposed) return;
    super[Symbol.dispose]();
    this.#losses.release();
  }

  /** The type that decodes records. */
  override get types(): RingBufTypes<E> {
    return this.handle.types as RingBufTypes<E>;
  }

  /** @internal Returns the events that programs counted as lost. */
  protected override countedLosses(): number {
    return this.#losses.total;
  }
}
