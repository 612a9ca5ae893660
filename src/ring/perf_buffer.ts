import type { Watch } from "../loop/event_loop.ts";
import { noTypes } from "../maps/map_options.ts";
import type { MapHandle } from "../maps/create.ts";
import { PerfEventArray } from "../maps/prog_array.ts";
import { EventBuffer } from "./event_buffer.ts";
import {
  checkPerfTypes,
  openPerfEvents,
  type PerfBufferOptions,
  type PerfBufferTypes,
  type PerfEvents,
  perfKind,
  perfLayout,
} from "./perf_cpus.ts";

/**
 * A perf buffer: a buffer for each CPU, which programs write records to with the helper `perf_event_output`, and one consumer
 * reads. It is what there was before the ring buffer: where that is to be had (kernel 5.8), {@link RingBuf} costs less and
 * keeps the order of events.
 *
 * Kernel 4.13 here. A map of the kind `perf_event_array`, a perf event for each CPU that is online when this is made, and their
 * pages: records are decoded, or shown, where they lie, but for one that wraps around the end of its buffer, which is copied.
 * So {@link EventBuffer.drainRaw} gives one of several views, and the kernel's memory can be written to: it is better not.
 *
 * Events of one CPU come in their order, those of different CPUs in any; {@link cpu} tells which one it is. A record's length
 * is what the kernel says: 4, 12, 20, ... bytes, up to 7 of which are padding and can hold anything, so that a record which is
 * too short for its event type by as much goes unnoticed. A record may have 65516 bytes; one that is longer spoils what is in
 * the buffer, for the kernel does not refuse it.
 *
 * A record that finds no room is lost. The kernel counts those, and says so with the next record that finds room on the same CPU:
 * `stats.lost` is exact from then on. Disposal drops what was not read.
 *
 * By default each record wakes the consumer, with an interrupt that takes the program a hundred times as long as the record:
 * 7 µs instead of 0.06 in a virtual machine. Where much comes, `watermark` has some gather, and `maxLatency` of the consumer
 * says for how long at most.
 *
 * The perf events are in the map for as long as this object is there; when its descriptor is shared (by `dup`, or with the one
 * that was given to `fromFd`), what is left of them without it takes no records. A second object for the same map would
 * replace them: on this thread it is refused; another thread's or process's takes over, and this one gets nothing any more.
 * A CPU that comes online later, or again, is not heard until there is a new object for the map: the helper answers `ENOENT`
 * or `EOPNOTSUPP` there.
 *
 * @throws {BpfError} `EPERM` without CAP_BPF or where locked memory runs out, `EACCES` without CAP_PERFMON, `EMFILE` where
 * descriptors do
 * @throws {TypeError | RangeError} for options that are misspelt, of the wrong type or out of range
 *
 * @example
 * ```ts
 * import { asm, PerfBuffer, Program, t } from "bun-bpf";
 * const { r0, r1, r2, r3, r4, r5 } = asm;
 * using events = new PerfBuffer({ event: t.struct({ value: t.u64Number }) });
 * using program = new Program({
 *   section: "socket",
 *   license: "GPL",
 *   maps: { events },
 *   code: [
 *     // The context is in r1 already.
 *     asm.stdw(asm.fp, -8, 42),
 *     asm.ldMap(r2, "events"),
 *     asm.mov32(r3, -1), // BPF_F_CURRENT_CPU
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
export class PerfBuffer<E> extends EventBuffer<E> {
  /** @internal */
  static readonly kind = perfKind;
  /** Bytes of the buffer of each CPU. */
  readonly byteLength: number;
  /** Bytes between two wake-ups; `undefined` where each record wakes. */
  readonly watermark: number | undefined;
  readonly #events: PerfEvents;

  constructor(options: PerfBufferOptions<E>);
  /** @internal */
  constructor(types: PerfBufferTypes<E>, existing: MapHandle);
  constructor(options: PerfBufferTypes<E>, existing = PerfBuffer.kind.create(options)) {
    const layout = perfLayout(options);
    // Assigned within the next call, which TypeScript cannot see.
    let events!: PerfEvents;
    super(existing, options.event, (map) => {
      events = openPerfEvents(map, layout);
      return events.reader;
    });
    this.#events = events;
    this.byteLength = layout.size;
    this.watermark = layout.watermark;
  }

  /**
   * Opens the map pinned at a path on a BPF file system, for programs that write to it already, and puts perf events of its
   * own into it.
   *
   * @throws {TypeError} when it is another kind of map
   * @throws {Error} when nothing is pinned there, or an object of this thread has its events in it
   */
  static open<E>(path: string, types: PerfBufferTypes<E>): PerfBuffer<E> {
    return new PerfBuffer(types, PerfBuffer.kind.open(path, checkPerfTypes(types)));
  }

  /** The same with a map by its id (CAP_SYS_ADMIN). @throws as {@link open} */
  static fromId<E>(id: number, types: PerfBufferTypes<E>): PerfBuffer<E> {
    return new PerfBuffer(types, PerfBuffer.kind.byId(id, checkPerfTypes(types)));
  }

  /** The same with the map behind a descriptor, which stays the caller's: this is a duplicate. @throws as {@link open} */
  static fromFd<E>(fd: number, types: PerfBufferTypes<E>): PerfBuffer<E> {
    return new PerfBuffer(types, PerfBuffer.kind.byFd(fd, checkPerfTypes(types)));
  }

  /** The CPUs whose programs are heard: those that were online when this object was made. */
  get cpus(): readonly number[] {
    return this.#events.reader.readers.map(({ cpu }) => cpu);
  }

  /**
   * The CPU that wrote the event: for use in a callback of `drain`, `drainRaw`, `subscribe` or `subscribeRaw`.
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
   * The map alone, with a descriptor and a life of its own: a second consumer would replace this one's perf events.
   *
   * @throws {DisposedError} after disposal
   */
  override dup(): PerfEventArray {
    return new PerfEventArray(noTypes, this.duplicateHandle());
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

  /** @internal */
  override watch(onReady: () => void): Watch {
    return this.#events.watch(onReady);
  }
}
