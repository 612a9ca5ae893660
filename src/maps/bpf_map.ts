import { freezeKernelMap } from "../ffi/bpf_map.ts";
import { Descriptor, duplicate } from "../ffi/descriptor.ts";
import { inspectCustom } from "../check/describe.ts";
import { type MapHandle, type MapInfo, type MapProperties, readMapInfo } from "./create.ts";
import { KernelObject } from "../handle/kernel_object.ts";
import type { MapTypeName } from "./map_types.ts";

/**
 * What every kind of map has: a descriptor, an identity in the kernel, and an end.
 *
 * A map lives until it is disposed of (`using`, or `map[Symbol.dispose]()`) or the process ends; the kernel keeps it for
 * as long as a program uses it or a path pins it. Garbage collection never closes it.
 */
export abstract class BpfMap extends KernelObject {
  readonly #info: MapProperties;

  /** @internal Classes of maps are constructed by their own options. */
  protected constructor(handle: MapHandle) {
    super("map", handle.descriptor, handle.pinnedAt);
    this.#info = handle.info;
  }

  /** The kernel's id of the map, as `bpftool map` shows it. */
  override get id(): number {
    return this.#info.id;
  }

  /** The name given at creation; may be empty. */
  get name(): string {
    return this.#info.name;
  }

  /** The kind of map: `"hash"`, `"lru_hash"`, ... */
  get type(): MapTypeName {
    return this.#info.type;
  }

  /** Bytes of a key; 0 for kinds without keys. */
  get keySize(): number {
    return this.#info.keySize;
  }

  /** Bytes of a value; 0 for kinds without values. */
  get valueSize(): number {
    return this.#info.valueSize;
  }

  /** How many entries the map holds at most; for a ring buffer, its size in bytes. */
  get maxEntries(): number {
    return this.#info.maxEntries;
  }

  /** The kernel's bits (`BPF_F_*`) that the map was created with. */
  get flags(): number {
    return this.#info.flags;
  }

  /** @internal The map for `console.log`: what it is, not all that it can do. */
  [inspectCustom](
    _depth: number,
    options: object,
    inspect: (value: unknown, options: object) => string,
  ): string {
    const { type, keySize, valueSize, maxEntries } = this.#info;
    const state = this.disposed ? { disposed: true } : {};
    const { id, name } = this;
    const shown = { id, type, name, keySize, valueSize, maxEntries, ...state };
    return `${this.constructor.name} ${inspect(shown, options)}`;
  }

  /** What the kernel says of the map now (kernel 4.13). @throws {BpfError} */
  info(): MapInfo {
    return readMapInfo(this.fd, `${this}`);
  }

  /**
   * Forbids user space to change the map from now on, for good; programs may still (kernel 5.2).
   *
   * @throws {BpfError} `EPERM` when it is frozen already, `EBUSY` when it is mapped writable
   */
  freeze(): this {
    freezeKernelMap(this.fd, `${this}`);
    return this;
  }

  /** A second object for the same map, with a descriptor and a life of its own. */
  abstract dup(): BpfMap;

  /** @internal A handle with a descriptor of its own. */
  protected duplicateHandle(): MapHandle {
    const descriptor = new Descriptor(duplicate(this.fd, `${this}`), `${this}`);
    return { descriptor, info: this.#info };
  }

  /** @internal Undoes a construction that fails after all: a pin that was made for it goes too. */
  protected abandon({ isNewlyPinned = false }: MapHandle): void {
    if (isNewlyPinned) this.unpin();
    this.descriptor[Symbol.dispose]();
  }
}
