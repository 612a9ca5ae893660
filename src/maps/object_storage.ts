import { Descriptor } from "../ffi/descriptor.ts";
import { BpfError } from "../ffi/error.ts";
import type { KindHints } from "../ffi/map_hints.ts";
import { i32 } from "../types/integer.ts";
import { hasSpinLock } from "../types/opaque.ts";
import { BPF_ANY, BPF_EXIST, BPF_NOEXIST } from "../uapi/bpf.ts";
import { ElementMap, type ElementOptions } from "./element_map.ts";
import type { MapHandle } from "./handle.ts";
import type { StorageTypes } from "./storage_kind.ts";

/** How often a value is stored that the kernel says to store again: once more has always been enough. */
const mostAttempts = 100;

/**
 * Whether the kernel refused a value because it was just freeing the owner's other values, or another thread stored its
 * first one: it leaves it to the caller to try again (`bpf_local_storage_update`).
 */
function isRace(error: unknown): boolean {
  return error instanceof BpfError && error.code === "EAGAIN";
}

/**
 * Maps that keep one value with each object of the kernel, such as a socket or a process: it is found without a search,
 * and is gone with the object, or with the map.
 *
 * Programs have the object itself; user space names it by a descriptor, or by what one can be opened from for the call:
 * that is the `Owner`. The kernel has no list of the owners, so there is no walk and no count, and no call for many.
 */
export abstract class ObjectStorage<Owner, V> extends ElementMap<number, V> {
  /** The type that values are written and read with. */
  readonly types: StorageTypes<V>;

  /** @internal */
  protected constructor(existing: MapHandle, { value }: StorageTypes<V>, kind: KindHints) {
    super(existing, { key: i32, value, isLocked: hasSpinLock(value), ...kind });
    this.types = { value };
  }

  /** @internal The descriptor of an owner: the caller's own as a number, or one that was opened for the call. */
  protected abstract descriptorOf(owner: Owner): number | Descriptor;

  /**
   * The value that is kept with an owner, or `undefined`.
   *
   * @throws {BpfError} `EBADF` and the like for a descriptor of something else: the hint says what it has to be of
   * @throws {TypeError | RangeError} for what is no owner
   */
  get(owner: Owner, options?: ElementOptions): V | undefined {
    return this.#call(owner, (fd) => this.find(fd, options));
  }

  /** Whether a value is kept with the owner. @throws as {@link get} */
  has(owner: Owner): boolean {
    return this.#call(owner, (fd) => this.contains(fd));
  }

  /**
   * Keeps a value with an owner, whether there was one or not.
   *
   * @throws {TypeError | RangeError} for what is no owner, and for a value that its type refuses
   * @throws {BpfError} as {@link get}, and `ENOMEM` when the kernel has no memory for it
   */
  set(owner: Owner, value: V, options?: ElementOptions): this {
    this.#store(owner, value, BPF_ANY, options);
    return this;
  }

  /** Keeps a value only if none is kept with the owner; whether it did. @throws as {@link set} */
  add(owner: Owner, value: V, options?: ElementOptions): boolean {
    return this.#store(owner, value, BPF_NOEXIST, options);
  }

  /** Keeps a value only in place of another one; whether it did. @throws as {@link set} */
  replace(owner: Owner, value: V, options?: ElementOptions): boolean {
    return this.#store(owner, value, BPF_EXIST, options);
  }

  /** Deletes the value that is kept with an owner; whether there was one. @throws as {@link get} */
  delete(owner: Owner): boolean {
    return this.#call(owner, (fd) => this.remove(fd));
  }

  /**
   * Fetches the value that is kept with an owner and deletes it, in two steps, as the kernel has none for both: a change
   * between them is lost.
   *
   * @throws as {@link get}
   */
  take(owner: Owner): V | undefined {
    return this.#call(owner, (fd) => this.takeOut(fd));
  }

  #store(owner: Owner, value: V, flags: number, options: ElementOptions | undefined): boolean {
    return this.#call(owner, (fd) => {
      for (let attempt = 1; ; attempt++) {
        try {
          return this.update(fd, value, flags, options);
        } catch (error) {
          if (attempt >= mostAttempts || !isRace(error)) throw error;
        }
      }
    });
  }

  #call<R>(owner: Owner, call: (fd: number) => R): R {
    // A disposed map refuses before anything is opened.
    void this.fd;
    const found = this.#find(owner);
    using opened = found instanceof Descriptor ? found : undefined;
    return call(opened === undefined ? (found as number) : opened.fd);
  }

  #find(owner: Owner): number | Descriptor {
    try {
      return this.descriptorOf(owner);
    } catch (error) {
      if (error instanceof TypeError || error instanceof RangeError) {
        error.message = `owner of a value of ${this}: ${error.message}`;
      }
      throw error;
    }
  }
}
