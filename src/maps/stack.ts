import type { MapHandle } from "./handle.ts";
import { PushPopMap } from "./push_pop_map.ts";
import { valueKind, type ValueMapOptions, type ValueTypes } from "./value_kind.ts";

/** Options of {@link Stack}. */
export type StackOptions<V> = ValueMapOptions<V>;

/**
 * A stack of values: the last one in is the first one out.
 *
 * Kernel 4.20. Programs push and pop as well; a pool of free numbers is its usual use. The kernel has no number of the
 * values in it.
 *
 * @throws {BpfError} `EPERM` without CAP_BPF, `ENOMEM` or `E2BIG` where the kernel has no memory for all values
 * @throws {TypeError | RangeError} for options that are misspelt, of the wrong type or out of range
 *
 * @example
 * ```ts
 * import { Stack, t } from "bun-bpf";
 * using free = new Stack({ value: t.u32, maxEntries: 1024 });
 * free.push(7).push(8);
 * console.log(free.pop(), [...free.drain()]); // 8 [ 7 ]
 * ```
 */
export class Stack<V> extends PushPopMap<V> {
  /** @internal */
  static readonly kind = valueKind("stack", "Stack", [], () => ({}));

  constructor(options: StackOptions<V>);
  /** @internal */
  constructor(types: ValueTypes<V>, existing: MapHandle);
  constructor(options: ValueTypes<V>, existing = Stack.kind.create(options)) {
    super(existing, options.value);
  }

  /** Opens the stack pinned at a path on a BPF file system (kernel 4.4). @throws as {@link HashMap.open} */
  static open<V>(path: string, types: ValueTypes<V>): Stack<V> {
    return new Stack(types, Stack.kind.open(path, types));
  }

  /** Opens a stack by its id (CAP_SYS_ADMIN). @throws as {@link HashMap.open} */
  static fromId<V>(id: number, types: ValueTypes<V>): Stack<V> {
    return new Stack(types, Stack.kind.byId(id, types));
  }

  /** Opens the stack behind a descriptor, which stays the caller's: this is a duplicate. @throws as {@link HashMap.open} */
  static fromFd<V>(fd: number, types: ValueTypes<V>): Stack<V> {
    return new Stack(types, Stack.kind.byFd(fd, types));
  }

  override dup(): Stack<V> {
    return new Stack(this.types, this.duplicateHandle());
  }
}
