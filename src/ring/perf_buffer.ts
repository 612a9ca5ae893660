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
 * A perf buffer: a buffer for each CPU, which programs write records to with the helper `perf_event_output`, and one
 * consumer reads. Perf buffers are older than ring buffers: from kernel 5.8 on, {@link RingBuf} costs less and keeps the
 * order of events.
 *
 * Kernel 4.13. It consists of a map of the type `perf_event_array`, and a perf event with its pages for each CPU that is
 * online at creation. Records are decoded, or shown, in place; only a record that wraps around the end of its buffer is
 * copied. So {@link EventBuffer.drainRaw} passes one of several views. They are writable: do not write to them.
 *
 * Events of one CPU come in order, those of different CPUs in any order; {@link cpu} tells the CPU. The length of a record
 * is 4, 12, 20, ... bytes, as the kernel pads it: up to 7 bytes at its end can hold anything, and a record that is too
 * short for its event type by as much goes unnoticed. A record has at most 65,516 bytes: the kernel does not refuse a
 * longer one, which corrupts the buffer.
 *
 * With `overwrite` (kernel 4.7) new records overwrite the oldest ones: a flight recorder, which is drained when something has
 * happened and costs almost nothing until then.
 *
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
 * A record that finds no room is lost. The kernel counts lost records, and reports the count with the next record that
 * finds room on the same CPU: `stats.lost` is exact from then on. Disposal drops unread records.
 *
 * By default each record wakes the consumer. The interrupt takes the program a hundred times as long as the record: 7 µs
 * instead of 0.06 in a virtual machine. With `watermark` or `wakeupEvents` the kernel wakes the consumer once for many records, and
 * the consumer's `maxLatency` bounds the delay.
 *
 * The perf events are in the map while this object lives. Where its descriptor is shared (by `dup`, or with the one that
 * was given to `fromFd`), they stay in the map after that, but take no records. A second object for the same map would
 * replace them. On this thread it is refused; one of another thread or process takes over, and this one gets nothing any
 * more.
 *
 * Records of a CPU that comes online later, or again (as all but one do after a suspend), are read within a second while a consumer
 * waits, otherwise from the next drain on. Until then the helper returns `ENOENT` or `EOPNOTSUPP` to programs there. The remaining
 * records of a CPU that goes offline are read. A CPU that was offline for less than a second may go unnoticed.
 *
 * @throws {BpfError} `EPERM` without CAP_BPF or where locked memory runs out, `EACCES` without CAP_PERFMON, `EMFILE` where
 * descriptors do
 * @throws {TypeError | RangeError} for options that are misspelt, of the wrong type or out of range
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
 *     // The context is in r1 already.
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
 */
export class PerfBuffer<E extends AnyType> extends EventBuffer<Infer<E>> {
  static readonly kind = perfKind;
  /** The duplicate is the map alone: see {@link dup}. */
  declare readonly [duplicateType]?: PerfEventArray;
  /** Bytes of the buffer of each CPU. */
  readonly byteLength: number;
  /** Bytes between two wake-ups; `undefined` where each record wakes. */
  readonly watermark: number | undefined;
  /** Records between two wake-ups; `undefined` where each record wakes the consumer, or the watermark decides. */
  readonly wakeupEvents: number | undefined;
  /** True when new records overwrite the oldest ones. */
  readonly overwrite: boolean;
  readonly #events: PerfEvents;

  constructor(options: PerfBufferOptions<E>) {
    const handle = PerfBuffer.kind.handle<PerfBufferTypes<E>>(options);
    const layout = perfLayout(handle.types);
    // Assigned within the next call, which TypeScript cannot see.
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

  /** The CPUs whose records are read: those that were online at the last check. */
  get cpus(): readonly number[] {
    return this.#events.cpus;
  }

  /**
   * The CPU that wrote the event, for callbacks of `drain`, `drainRaw`, `subscribe` or `subscribeRaw`.
   *
   * It is that of the event which was delivered last, and -1 before the first. So it holds in the body of a `for await` over
   * `events()`, too, as long as one `next()` waits at a time, and for a batch in place, whose events are of one CPU. A batch
   * that is an array can have events of several: there, and in a stream, the event itself has to say
   * (`asm.call("get_smp_processor_id")`).
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
   * Makes the kernel drop the records of all CPUs until {@link resume}: the helper returns `ENOSPC`, and the records count as lost.
   * Records in the buffer stay and can be read. A second call does nothing.
   *
   * To read a snapshot while programs run: pause, drain, resume.
   *
   * @throws {DisposedError} after disposal
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
   * Makes the kernel write records again after {@link pause}. A second call does nothing. @throws {DisposedError} after disposal
   */
  resume(): this {
    return this.#pause(false);
  }

  /** True while the records of programs are dropped. */
  get paused(): boolean {
    return this.#events.isPaused;
  }

  #pause(paused: boolean): this {
    // Read only for its error after disposal.
    void this.fd;
    this.#events.pause(paused);
    return this;
  }

  /**
   * Ends the consumer, drops what was not read, detaches every view, and closes the map and the perf events; a second call does
   * nothing. Whoever waits for an event gets the end of the iteration.
   *
   * @throws {Error} while an asynchronous operation of Bun uses a view of the buffer: all is as before then
   */
  override [Symbol.dispose](): void {
    super[Symbol.dispose]();
    this.#events.close();
  }

  /**
   * Opens the map alone a second time, with a descriptor and a lifetime of its own: a second consumer would replace the
   * perf events of this one.
   *
   * @throws {DisposedError} after disposal
   */
  override dup(): Duplicate<this> {
    // PerfEventArray takes a handle, which its declared options do not say.
    return new PerfEventArray(this.handle.duplicate() as never) as Duplicate<this>;
  }

  /** The layout that records are decoded with. */
  override get types(): RingBufTypes<E> {
    return { event: (this.handle.types as RingBufTypes<E>).event };
  }

  /** @internal */
  override watch(onReady: () => void): Watch {
    return this.#events.watch(onReady);
  }
}
