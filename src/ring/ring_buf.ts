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

/** The counters of the rings that this thread has open, by the kernel's id. */
const counters = new Map<number, LossCounter>();

/** The counter of a ring's lost events. Several objects for one ring share it: each should see what programs count by another. */
class LossCounter {
  readonly #id: number;
  #objects = 0;
  #map: PerCpuArrayMap<typeof u64Number> | undefined;

  private constructor(id: number) {
    this.#id = id;
    counters.set(id, this);
  }

  /** Returns the counter of a ring, for one more object, which is to release it. */
  static of(id: number): LossCounter {
    const counter = counters.get(id) ?? new LossCounter(id);
    counter.#objects++;
    return counter;
  }

  /** Returns the map, which is made when it is first asked for. */
  map(ringName: string): PerCpuArrayMap<typeof u64Number> {
    const suffix = "_lost";
    const name = ringName.slice(0, BPF_OBJ_NAME_LEN - 1 - suffix.length) + suffix;
    this.#map ??= new PerCpuArrayMap({ value: u64Number, length: 1, name });
    return this.#map;
  }

  get total(): number {
    return this.#map?.sum(0) ?? 0;
  }

  release(): void {
    if (--this.#objects > 0) return;
    counters.delete(this.#id);
    this.#map?.[Symbol.dispose]();
  }
}

/**
 * A ring buffer: programs write records of any length, one consumer reads them in order.
 *
 * Kernel 5.8. The kernel's pages are mapped and records are decoded, or shown, where they lie. A record that finds no room
 * is lost: the helper that reserves it returns NULL to the program. `asm.reserveOrCount()` counts these records, and
 * `stats.lost` has the count.
 *
 * With the flag `"rb_overwrite"` (kernel 6.19) new records overwrite the oldest ones, read or not: for a flight recorder.
 * Records are copied before they are shown. `stats.overwrittenBytes` counts the bytes that were missed; the number of
 * records is not known. Such a ring wakes its consumer as any other does; programs that record for later write with
 * `BPF_RB_NO_WAKEUP`.
 *
 * A ring has one consumer at a time, also where this thread has several objects for it (`dup`, `open`, ...): a second one is
 * refused. One in another thread or process cannot be refused, as the kernel does not coordinate consumers. Both go on then: each
 * gets a part of the events, events that both read at the same time are delivered twice, and rarely an event is missing or has the
 * bytes of a newer one.
 *
 * @throws {BpfError} `EPERM` without CAP_BPF, `EINVAL` before kernel 5.8
 * @throws {TypeError | RangeError} for options that are misspelt, of the wrong type or out of range
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
 */
export class RingBuf<E extends AnyType> extends EventBuffer<Infer<E>> {
  static readonly kind = /*@__PURE__*/ ringKind(RINGBUF, "RingBuf", 2 ** 30);
  readonly #losses: LossCounter;

  constructor(options: RingBufOptions<E>) {
    const handle = RingBuf.kind.handle<RingBufTypes<E>>(options);
    super(handle, handle.types.event as Type<Infer<E>>, (map) => {
      // The size is the kernel's, not the caller's: this may be a ring that somebody else made.
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
    this.#losses = LossCounter.of(this.id);
  }

  /** The ring's size in bytes: `maxEntries`. */
  get byteLength(): number {
    return this.maxEntries;
  }

  /**
   * The per-CPU map in which programs count the lost events of this ring, with `asm.reserveOrCount()` and its kin or by
   * code of their own. `stats.lost` is its sum.
   *
   * It is created at the first use, here or by the code of a program, and starts at 0. All objects of this thread for the
   * ring share it (`dup`, `open`, ...). It is closed with the last of them: do not dispose of it before.
   *
   * The kernel does not know which ring it belongs to: other threads and processes that open the ring have counters of
   * their own. To share one, pin it beside the ring, and give it to the programs as the map `"events.lost"`, next to the
   * ring `"events"`.
   *
   * @throws {DisposedError} after disposal
   * @throws {BpfError} as {@link PerCpuArrayMap} when it cannot be made
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
    // Asked for its error after disposal only.
    void this.fd;
    return this.#losses.map(this.name);
  }

  override [Symbol.dispose](): void {
    if (this.disposed) return;
    super[Symbol.dispose]();
    this.#losses.release();
  }

  /** The layout that records are decoded with. */
  override get types(): RingBufTypes<E> {
    return this.handle.types as RingBufTypes<E>;
  }

  /** @internal */
  protected override countedLosses(): number {
    return this.#losses.total;
  }
}
