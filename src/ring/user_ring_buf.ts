import { BpfMap } from "../maps/bpf_map.ts";
import type { MapHandle } from "../maps/handle.ts";
import { type RingBufOptions, type RingBufTypes, ringKind } from "./ring_kind.ts";

/**
 * A user ring buffer: a ring for records from user space, which programs drain with the helper `user_ringbuf_drain`. This
 * creates or opens one, so that a program can refer to it.
 *
 * Kernel 6.1.
 *
 * @throws {BpfError} `EPERM` without CAP_BPF, `EINVAL` before kernel 6.1
 * @throws {TypeError | RangeError} for options that are misspelt, of the wrong type or out of range
 *
 * @example
 * ```ts
 * import { t, UserRingBuf } from "bun-bpf";
 * using commands = new UserRingBuf({ size: 4096, event: t.struct({ pid: t.u32 }), name: "commands" });
 * console.log(commands.type, commands.size, commands.types.event.size); // user-ringbuf 4096 4
 * ```
 */
export class UserRingBuf<E> extends BpfMap {
  /** @internal */
  static readonly kind = ringKind("user-ringbuf", "UserRingBuf");
  /** The layout of a record. */
  readonly types: RingBufTypes<E>;

  constructor(options: RingBufOptions<E>);
  /** @internal */
  constructor(types: RingBufTypes<E>, existing: MapHandle);
  constructor(options: RingBufTypes<E>, existing = UserRingBuf.kind.create(options)) {
    super(existing);
    this.types = { event: options.event };
  }

  /**
   * Opens the user ring buffer pinned at a path on a BPF file system. Its size is asked of the kernel.
   *
   * @throws {TypeError} when it is another kind of map
   * @throws {Error} when nothing is pinned there
   */
  static open<E>(path: string, types: RingBufTypes<E>): UserRingBuf<E> {
    return new UserRingBuf(types, UserRingBuf.kind.open(path, types));
  }

  /** Opens a user ring buffer by its id (CAP_SYS_ADMIN). @throws as {@link open} */
  static fromId<E>(id: number, types: RingBufTypes<E>): UserRingBuf<E> {
    return new UserRingBuf(types, UserRingBuf.kind.byId(id, types));
  }

  /** Opens the user ring buffer behind a descriptor, which stays the caller's: this is a duplicate. @throws as {@link open} */
  static fromFd<E>(fd: number, types: RingBufTypes<E>): UserRingBuf<E> {
    return new UserRingBuf(types, UserRingBuf.kind.byFd(fd, types));
  }

  /** The ring's size in bytes: `maxEntries`. */
  get size(): number {
    return this.maxEntries;
  }

  override dup(): UserRingBuf<E> {
    return new UserRingBuf(this.types, this.duplicateHandle());
  }
}
