import type { MapHandle } from "./handle.ts";
import { PushPopMap } from "./push_pop_map.ts";
import { valueKind, type ValueMapOptions, type ValueTypes } from "./value_kind.ts";

/** Options of {@link Queue}. */
export type QueueOptions<V> = ValueMapOptions<V>;

/**
 * A queue of values: the first one in is the first one out.
 *
 * Kernel 4.20. Programs push and pop as well, which makes it a mailbox between them and user space. There is nothing to
 * wait on: a reader asks. The kernel has no number of the values in it.
 *
 * @throws {BpfError} `EPERM` without CAP_BPF, `ENOMEM` or `E2BIG` where the kernel has no memory for all values
 * @throws {TypeError | RangeError} for options that are misspelt, of the wrong type or out of range
 *
 * @example
 * ```ts
 * import { Queue, t } from "bun-bpf";
 * using jobs = new Queue({ value: t.u32, maxEntries: 2 });
 * jobs.push(1).push(2).push(3, { evict: true });
 * console.log(jobs.peek(), jobs.pop(), jobs.pop(), jobs.pop()); // 2 2 3 undefined
 * ```
 */
export class Queue<V> extends PushPopMap<V> {
  /** @internal */
  static readonly kind = valueKind("queue", "Queue", [], () => ({}));

  constructor(options: QueueOptions<V>);
  /** @internal */
  constructor(types: ValueTypes<V>, existing: MapHandle);
  constructor(options: ValueTypes<V>, existing = Queue.kind.create(options)) {
    super(existing, options.value);
  }

  /** Opens the queue pinned at a path on a BPF file system (kernel 4.4). @throws as {@link HashMap.open} */
  static open<V>(path: string, types: ValueTypes<V>): Queue<V> {
    return new Queue(types, Queue.kind.open(path, types));
  }

  /** Opens a queue by its id (CAP_SYS_ADMIN). @throws as {@link HashMap.open} */
  static fromId<V>(id: number, types: ValueTypes<V>): Queue<V> {
    return new Queue(types, Queue.kind.byId(id, types));
  }

  /** Opens the queue behind a descriptor, which stays the caller's: this is a duplicate. @throws as {@link HashMap.open} */
  static fromFd<V>(fd: number, types: ValueTypes<V>): Queue<V> {
    return new Queue(types, Queue.kind.byFd(fd, types));
  }

  override dup(): Queue<V> {
    return new Queue(this.types, this.duplicateHandle());
  }
}
