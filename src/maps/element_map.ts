import { checkCount, checkOptions } from "../check/arguments.ts";
import { describe } from "../check/describe.ts";
import type { KindHints } from "../ffi/bpf_map.ts";
import { elementKeyOffset, MapElement } from "../ffi/bpf_map_element.ts";
import { BpfMap } from "./bpf_map.ts";
import { copiedValueSize, type MapHandle } from "./create.ts";
import { cpuIndex, type PerCpuLayout, type ValueLayout } from "./value_layout.ts";
import type { WalkedMap } from "./walk.ts";
import type { Type } from "../types/type.ts";
import { BPF_EXIST, BPF_F_LOCK, BPF_NOEXIST } from "../uapi/bpf.ts";

/** An array, as far as its indexes go. */
interface Indexed {
  readonly length: number;
  /** Throws when the array is disposed of. */
  readonly fd: number;
}

/**
 * Checks that an array has an index. What is no index of any array is refused by the key's type, in the kernel's stead.
 *
 * @throws {RangeError} for one past the end
 */
export function checkIndex(array: Indexed, index: number): void {
  if (typeof index !== "number" || index < array.length) return;
  void array.fd;
  throw new RangeError(
    `index of ${array}: expected an integer from 0 to ${array.length - 1}, got ${index}`,
  );
}

/** The key of maps that have none. */
export const noKey: Type<undefined> = {
  kind: "none",
  name: "none",
  size: 0,
  align: 1,
  read: () => undefined,
  write: () => {},
};

/** How one element is looked up or stored. */
export interface ElementOptions {
  /**
   * Whether the value is copied while its spin lock is held, so that no half of it is a program's (kernel 5.1).
   *
   * @default true for types with a `t.spinLock`, else false
   */
  readonly lock?: boolean;
  /** More of the kernel's bits (`BPF_F_*`) for the call. @default 0 */
  readonly flags?: number;
}

/** How the keys and values of a map lie in memory, and what it means when the kernel refuses them. */
export interface ElementLayout<K, V, W = V> extends KindHints {
  readonly key: Type<K>;
  readonly value: ValueLayout<V, W>;
  /** Whether values carry a spin lock. */
  readonly isLocked?: boolean;
  /** Whether a program reads values just as this process does, and changes nothing by that. */
  readonly isReadByPrograms?: boolean;
}

/**
 * Maps of elements, each with a key: the calls of bpf(2) on one of them. A kind of map shows those that it has.
 *
 * `V` is what is read, `W` what is written: the same for most kinds.
 */
export abstract class ElementMap<K, V, W = V> extends BpfMap {
  /** @internal */
  protected readonly layout: ElementLayout<K, V, W>;
  /** @internal What every call has unless its options say something else. */
  protected readonly defaultFlags: number;
  /** Memory for calls on one element; `undefined` while an operation has it, and after disposal. */
  #element: MapElement | undefined;

  /** @internal */
  protected constructor(handle: MapHandle, layout: ElementLayout<K, V, W>) {
    super(handle);
    this.layout = layout;
    this.defaultFlags = layout.isLocked === true ? BPF_F_LOCK : 0;
    try {
      // Types are the user's objects, which may say one thing now and another then: the kernel would write past the room.
      const copied = copiedValueSize(handle.info);
      if (layout.key.size !== handle.info.keySize || layout.value.size !== copied) {
        throw new TypeError(
          `the types of the ${this} are not those that it was made or opened with: a key of ${layout.key.size} and a value of ${layout.value.size} bytes, not ${handle.info.keySize} and ${copied}`,
        );
      }
      this.#element = this.#newElement();
    } catch (error) {
      this.abandon(handle);
      throw error;
    }
  }

  /** @internal The value of a key, or `undefined`. */
  protected find(key: K, options?: ElementOptions): V | undefined {
    const flags = options === undefined ? this.defaultFlags : this.flagsOf(options);
    const element = this.begin();
    try {
      this.writeKey(element, key);
      return element.lookup(flags) ? this.readValue(element) : undefined;
    } finally {
      this.end(element);
    }
  }

  /** @internal Whether there is a value for the key. */
  protected contains(key: K): boolean {
    const element = this.begin();
    try {
      this.writeKey(element, key);
      return element.lookup(0);
    } finally {
      this.end(element);
    }
  }

  /** @internal Stores a value, which errors call `stored`; false where the flags forbid it. */
  protected update(
    key: K,
    value: W,
    flags: number,
    options?: ElementOptions,
    stored?: string,
  ): boolean {
    const all = flags | (options === undefined ? this.defaultFlags : this.flagsOf(options));
    const element = this.begin();
    try {
      this.writeKey(element, key);
      this.write("value", this.layout.value, element.view, element.valueOffset, value);
      void this.fd;
      return element.update(all, stored);
    } finally {
      this.end(element);
    }
  }

  /** @internal The value of one CPU, of those that the key has. */
  protected findCpu<E>(key: K, cpu: number, values: PerCpuLayout<E>): E | undefined {
    const index = cpuIndex(cpu);
    const element = this.begin();
    try {
      this.writeKey(element, key);
      if (!element.lookup(0)) return undefined;
      return values.readOne(element.view, element.valueOffset, index);
    } finally {
      this.end(element);
    }
  }

  /** @internal Stores the value of one CPU. */
  protected updateCpu<E>(key: K, cpu: number, value: E, values: PerCpuLayout<E>): void {
    const index = cpuIndex(cpu);
    const element = this.begin();
    try {
      this.writeKey(element, key);
      values.writeOne(element.view, element.valueOffset, value, index);
      void this.fd;
      element.updateCpu(cpu);
    } finally {
      this.end(element);
    }
  }

  /** @internal Deletes a key; whether it was there. */
  protected remove(key: K): boolean {
    const element = this.begin();
    try {
      this.writeKey(element, key);
      return this.deleteElement(element);
    } finally {
      this.end(element);
    }
  }

  /** @internal Deletes the element's key; whether it was there, which the kernel does not say for every kind. */
  protected deleteElement(element: MapElement): boolean {
    return element.delete();
  }

  /** @internal Fetches a value and deletes its key. */
  protected takeOut(key: K): V | undefined {
    const element = this.begin();
    try {
      this.writeKey(element, key);
      return this.takeElement(element) ? this.readValue(element) : undefined;
    } finally {
      this.end(element);
    }
  }

  /** @internal In one step where map and kernel can. */
  protected takeElement(element: MapElement): boolean {
    const flags = this.defaultFlags;
    return element.lookupAndDelete(flags) ?? (element.lookup(flags) && element.delete());
  }

  /** @internal The bits for a call with options. */
  protected flagsOf(options: ElementOptions): number {
    checkOptions("options", options, ["lock", "flags"]);
    const { lock, flags = 0 } = options;
    if (lock !== undefined && typeof lock !== "boolean") {
      throw new TypeError(`lock: expected true or false, got ${describe(lock)}`);
    }
    checkCount("flags", flags, 0, 0xffffffff);
    if ((flags & (BPF_NOEXIST | BPF_EXIST)) !== 0) {
      throw new RangeError(
        "flags: BPF_NOEXIST is what add() is for, BPF_EXIST what replace() is for",
      );
    }
    return flags | (lock === undefined ? this.defaultFlags : lock ? BPF_F_LOCK : 0);
  }

  /**
   * @internal Takes the memory for a call, until {@link end}.
   *
   * Types and getters of values are the user's code and may use this very map, or dispose of it, while a key or a value
   * is being written or read: such a call gets memory of its own.
   */
  protected begin(): MapElement {
    const element = this.#element;
    if (element === undefined) return this.#newElement();
    this.#element = undefined;
    return element;
  }

  /** @internal */
  protected end(element: MapElement): void {
    if (this.#element === undefined && !this.disposed) this.#element = element;
    else element[Symbol.dispose]();
  }

  /** @internal Writes the key of a call. @throws {DisposedError} when that disposed of the map */
  protected writeKey(element: MapElement, key: K, index?: number): void {
    this.write("key", this.layout.key, element.view, elementKeyOffset, key, index);
    void this.fd;
  }

  /** @internal */
  protected readValue(element: MapElement): V {
    return this.layout.value.read(element.view, element.valueOffset);
  }

  /**
   * @internal Writes a part of a call: the type does not know what it describes, the message should.
   *
   * @param index of many, from 0
   */
  protected write<T>(
    role: string,
    type: Pick<ValueLayout<unknown, T>, "write">,
    view: DataView,
    offset: number,
    value: T,
    index?: number,
  ): void {
    try {
      type.write(view, offset, value);
    } catch (error) {
      if (error instanceof Error) {
        const which = index === undefined ? role : `${role} ${index}`;
        error.message = `${which} of ${this}: ${error.message}`;
      }
      throw error;
    }
  }

  /** @internal */
  protected get walked(): WalkedMap {
    const { descriptor, keySize, maxEntries, layout } = this;
    // Asking for the number refuses a disposed map here, before memory is taken.
    void descriptor.fd;
    return {
      descriptor,
      keySize,
      valueSize: layout.value.size,
      maxEntries,
      flags: this.defaultFlags,
      what: `${this}`,
      kind: layout,
    };
  }

  #newElement(): MapElement {
    return new MapElement(this.fd, this.keySize, this.layout.value.size, `${this}`, this.layout);
  }

  override [Symbol.dispose](): void {
    super[Symbol.dispose]();
    this.#element?.[Symbol.dispose]();
    this.#element = undefined;
  }
}
