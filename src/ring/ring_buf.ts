import { RingMemory } from "../ffi/ring_memory.ts";
import type { MapHandle } from "../maps/handle.ts";
import { EventBuffer } from "./event_buffer.ts";
import { RingReader } from "./reader.ts";
import { BPF_F_RB_OVERWRITE } from "../uapi/bpf.ts";
import { type RingBufOptions, type RingBufTypes, ringKind } from "./ring_kind.ts";

import { SnapshotRing } from "./snapshot_ring.ts";

/**
 * A ring buffer: programs write records of any length, one consumer reads them in order.
 *
 * Kernel 5.8. The kernel's pages are mapped and records are decoded, or shown, where they lie. Records that do not fit are
 * lost at the program's side, where the reserving helper returns NULL: `asm.reserveOrCount()` counts them, `stats.lost` tells.
 *
 * With the flag `"rb-overwrite"` (kernel 6.19) the oldest records are lost instead, read or not: for a recorder of what came
 * before something. They are copied before they are shown, and `stats.overwrittenBytes` says how much was missed; how many
 * records that were nobody knows. Such a ring wakes its consumer as any other does; programs that record for later write with
 * `BPF_RB_NO_WAKEUP`.
 *
 * One consumer at a time. That goes for the ring, not for the object: a second object for the same ring (`dup`, `open`, ...) on
 * this thread is refused as well; another thread's or process's is not noticed, and takes events away.
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
export class RingBuf<E> extends EventBuffer<E> {
  /** @internal */
  static readonly kind = ringKind("ringbuf", "RingBuf");

  constructor(options: RingBufOptions<E>);
  /** @internal */
  constructor(types: RingBufTypes<E>, existing: MapHandle);
  constructor(options: RingBufTypes<E>, existing = RingBuf.kind.create(options)) {
    super(existing, options.event, (map) => {
      // The size is the kernel's, not the caller's: this may be a ring that somebody else made.
      const size = map.maxEntries;
      const memory = new RingMemory(map.fd, size, `${map}`);
      const isOverwritten = (map.flags & BPF_F_RB_OVERWRITE) !== 0;
      const ring = isOverwritten ? new SnapshotRing(memory, size) : memory;
      return new RingReader(ring, size, `${map}`);
    });
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

  /** The ring's size in bytes: `maxEntries`. */
  get size(): number {
    return this.maxEntries;
  }

  override dup(): RingBuf<E> {
    return new RingBuf(this.types, this.duplicateHandle());
  }

  /** @internal */
  protected override countedLosses(): number {
    return 0;
  }
}
