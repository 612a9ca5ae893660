import type { Watch } from "../loop/event_loop.ts";
import { type Duplicate, duplicateType } from "../maps/bpf_map.ts";
import type { AnyType, TypeIn } from "../maps/map_options.ts";
import type { Infer, Type } from "../types/type.ts";
import { PerfEventArray } from "../maps/prog_array.ts";
import { EventBuffer } from "./event_buffer.ts";
import { type PerfBufferOptions, type PerfBufferTypes, perfKind, perfLayout } from "./perf_cpus.ts";
import { PerfEvents } from "./perf_events.ts";
import type { RingBufTypes } from "./ring_options.ts";

declare module "../maps/map_options.ts" {
  interface MapClasses<T> {
    PerfBuffer: PerfBuffer<TypeIn<T, "event">>;
  }
}

/**
 * A perf buffer: one buffer per CPU, to which programs write records with the helper `perf_event_output`, and which one
 * consumer reads. Ring buffers replace perf buffers: from Linux 5.8 on, {@link RingBuf} costs less and keeps the order of
 * events.
 *
 * The consuming methods are those of {@link EventBuffer}. The object consists of a map of the type `perf_event_array`, and
 * of a perf event with its mapped pages for each online CPU. Records are decoded, or read, in place; only a record that
 * wraps around the end of its buffer is copied. So {@link EventBuffer.drainRaw} passes one of several views. The views are
 * writable, but must not be written to.
 *
 * Events of one CPU are in order, events of different CPUs are not. {@link cpu} is the CPU of the current event.
 *
 * The kernel pads a record with up to 7 bytes of undefined content, to a length of 4, 12, 20, ... bytes, and reports only
 * that length. So a record that is shorter than its event type by at most the padding is not rejected. A program must not
 * write a record of more than 65,516 bytes: the kernel accepts such a record, but its length does not fit the header, and
 * the buffer is then corrupt.
 *
 * With `overwrite`, new records overwrite the oldest ones, as in a flight recorder. Such a buffer is drained only after
 * something has happened, and costs this process almost nothing before.
 *
 * A record for which its buffer has no room is lost. The kernel counts such records, and reports the count together with the
 * next record on the same CPU that has room: from then on `stats.lost` is exact. Disposal drops unread records.
 *
 * By default the kernel wakes the consumer for each record, which costs the program more than writing the record. With
 * `watermark` or `wakeupEvents`, the kernel sends one wake-up for many records, and the option `maxLatency` of the consumer
 * bounds the delay of the records.
 *
 * The perf events are in the map as long as this object lives. If the descriptor of this object is shared (by `dup`, or with
 * the descriptor passed to `fromFd`), the events stay in the map after disposal, but accept no records. A second object for
 * the same map would replace the perf events. On this thread its constructor throws an error. In another thread or process
 * it takes over, and this object gets no more events.
 *
 * Records of a CPU that comes online later, or again (after a suspend all CPUs but one do), are read within a second if a
 * consumer waits, otherwise from the next drain on. Until then the helper returns ENOENT or EOPNOTSUPP to programs on that
 * CPU. The remaining records of a CPU that goes offline are read. If a CPU is offline for less than a second, that may not
 * be noticed: the helper then keeps failing.
 *
 * @throws {BpfError} EPERM if CAP_BPF is missing, or the limit on locked memory (RLIMIT_MEMLOCK, perf_event_mlock_kb) is
 * reached.
 * @throws {BpfError} EACCES if CAP_PERFMON is missing.
 * @throws {BpfError} EMFILE if there are too few free descriptors: a perf buffer takes one per CPU.
 * @throws {Error} if this thread has another object for the same map.
 * @throws {TypeError | RangeError} if an option is misspelt, of the wrong type or out of range.
 *
 * @example
 * ```ts
 * import { asm, PerfBuffer, Program, t, uapi } from "bun-bpf";
 * const { r0, r2, r3, r4, r5 } = asm;
 * using events = new PerfBuffer({ event: t.struct({ value: t.u64Number }) });
 * using program = new Program({
 *   section: "socket",
 *   license: "GPL",
 *   maps: { events },
 *   code: [
 *     // r1 has the context.
 *     asm.stdw(asm.fp, -8, 42),
 *     asm.ldMap(r2, "events"),
 *     asm.mov32(r3, uapi.BPF_F_CURRENT_CPU),
 *     asm.mov(r4, asm.fp),
 *     asm.add(r4, -8),
 *     asm.mov(r5, 8),
 *     asm.call("perf_event_output"),
 *     asm.mov(r0, 0),
 *     asm.exit(),
 *   ],
 * });
 * program.testRun({ data: new Uint8Array(14) });
 * for await (const event of events) {
 *   console.log(event.value); // 42
 *   break;
 * }
 * ```
 *
 * @example
 * ```ts
 * import { asm, PerfBuffer, Program, t, uapi } from "bun-bpf";
 * using recorder = new PerfBuffer({ event: t.u64Number, size: 4096, overwrite: true });
 * using program = new Program({
 *   section: "socket",
 *   license: "GPL",
 *   maps: { recorder },
 *   code: [
 *     asm.stdw(asm.fp, -8, 42),
 *     asm.ldMap(asm.r2, "recorder"),
 *     asm.mov32(asm.r3, uapi.BPF_F_CURRENT_CPU),
 *     asm.mov(asm.r4, asm.fp),
 *     asm.add(asm.r4, -8),
 *     asm.mov(asm.r5, 8),
 *     asm.call("perf_event_output"),
 *     asm.mov(asm.r0, 0),
 *     asm.exit(),
 *   ],
 * });
 * program.testRun({ data: new Uint8Array(14), repeat: 100_000 });
 * let newest = 0;
 * const events = recorder.drain((event) => void (newest = event));
 * console.log(events > 0 && events < 1000, newest); // true 42
 * ```
 *
 * Requires Linux 4.13.
 */
export class PerfBuffer<E extends AnyType> extends EventBuffer<Infer<E>> {
  /** Definition of this class: its map type and options. */
  static readonly kind = perfKind;
  /** The type of a duplicate: the map only, see {@link dup}. */
  declare readonly [duplicateType]?: PerfEventArray;
  /** The size of the buffer of each CPU in bytes. */
  readonly byteLength: number;
  /** The number of bytes between two wake-ups; `undefined` if each record wakes the consumer, or {@link wakeupEvents} is set. */
  readonly watermark: number | undefined;
  /** The number of records between two wake-ups; `undefined` if each record wakes the consumer, or {@link watermark} is set. */
  readonly wakeupEvents: number | undefined;
  /** True if new records overwrite the oldest ones. */
  readonly overwrite: boolean;
  readonly #events: PerfEvents;

  /** Creates the map, or opens the one that is pinned at the path of the option `pin`, and opens the perf events. */
  constructor(options: PerfBufferOptions<E>) {
    const handle = PerfBuffer.kind.handle<PerfBufferTypes<E>>(options);
    const layout = perfLayout(handle.types);
    // `super` calls the function that assigns `events`, which TypeScript does not see.
    let events!: PerfEvents;
    super(handle, handle.types.event as Type<Infer<E>>, (map) => {
      events = new PerfEvents(map, layout);
      return events.reader;
    });
    this.#events = events;
    this.byteLength = layout.size;
    this.watermark = layout.watermark;
    this.wakeupEvents = layout.wakeupEvents;
    this.overwrite = layout.overwrite;
  }

  /**
   * The numbers of the CPUs whose records are read, in ascending order. These are the CPUs that were online at the last
   * check.
   */
  get cpus(): readonly number[] {
    return this.#events.cpus;
  }

  /**
   * The number of the CPU on which the last delivered event was written; -1 before the first event.
   *
   * Read this property in callbacks of `drain`, `drainRaw`, `subscribe` and `subscribeRaw`; in the body of a `for await`
   * over `events()`; and for a batch in place, whose events are all of one CPU. The property does not apply to batches that
   * are arrays, to streams, and to several calls of `next()` that wait at the same time. For those, record the CPU in the
   * event (`asm.call("get_smp_processor_id")`).
   *
   * @example
   * ```ts
   * import { PerfBuffer, t } from "bun-bpf";
   * using buffer = new PerfBuffer({ event: t.u64Number, size: 64 * 1024 });
   * const perCpu = new Map<number, number>();
   * buffer.drain(() => perCpu.set(buffer.cpu, (perCpu.get(buffer.cpu) ?? 0) + 1));
   * console.log(perCpu.size, buffer.cpu); // 0 -1
   * ```
   */
  get cpu(): number {
    return this.#events.reader.cpu;
  }

  /**
   * Makes the kernel drop new records on all CPUs, until {@link resume}. A second call does nothing.
   *
   * While paused, the helper returns ENOSPC to programs, and the records count as lost. Records in the buffer stay and can be
   * read. To read a snapshot while programs run: pause, drain, resume.
   *
   * @throws {DisposedError} after disposal.
   *
   * @example
   * ```ts
   * import { PerfBuffer, t } from "bun-bpf";
   * using buffer = new PerfBuffer({ event: t.u64, paused: true });
   * console.log(buffer.paused); // true
   * console.log(buffer.resume().paused); // false
   * ```
   */
  pause(): this {
    return this.#pause(true);
  }

  /**
   * Makes the kernel accept records again after {@link pause}. A second call does nothing.
   *
   * @throws {DisposedError} after disposal.
   */
  resume(): this {
    return this.#pause(false);
  }

  /** True while the kernel drops new records, see {@link pause}. */
  get paused(): boolean {
    return this.#events.isPaused;
  }

  #pause(paused: boolean): this {
    // Throws after disposal.
    void this.fd;
    this.#events.pause(paused);
    return this;
  }

  /**
   * Ends the consumer, drops unread records, detaches every view of the buffer, and closes the perf events and the descriptor
   * of the map. A second call does nothing. A waiting iteration ends.
   *
   * @throws {Error} if an asynchronous operation of Bun uses a view of the buffer; nothing has changed then.
   */
  override [Symbol.dispose](): void {
    super[Symbol.dispose]();
    this.#events.close();
  }

  /**
   * Returns a second object for the map, with a separate descriptor and lifetime. The object is a {@link PerfEventArray},
   * not a perf buffer: a second perf buffer would replace the perf events of this one.
   *
   * @throws {DisposedError} after disposal.
   */
  override dup(): Duplicate<this> {
    // The constructor accepts a handle, although its declared options do not include one.
    return new PerfEventArray(this.handle.duplicate() as never) as Duplicate<this>;
  }

  /** The type that decodes records. */
  override get types(): RingBufTypes<E> {
    return { event: (this.handle.types as RingBufTypes<E>).event };
  }

  /** @internal Returns a watch that calls `onReady` from the event loop when a CPU has unread records. */
  override watch(onReady: () => void): Watch {
    return this.#events.watch(onReady);
  }
}
