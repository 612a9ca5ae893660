import { freezeKernelMap } from "../ffi/bpf_map.ts";
import { KernelObject } from "../handle/kernel_object.ts";
import { type MapHandle, type MapInfo, readMapInfo } from "./create.ts";
import type { CheckedArguments, MapClass, MapOf, OpenArguments } from "./map_options.ts";
import type { MapTypeName } from "./map_types.ts";

/** The type that {@link BpfMap.dup} returns: the type of the object, but for a perf buffer that of its map alone. */
export type Duplicate<M> = M extends { readonly [duplicateType]?: infer D extends BpfMap } ? D : M;

/** Carries the type of a {@link BpfMap.dup} that is of another class; no object has it. */
export declare const duplicateType: unique symbol;

/** The library's class that a class is or extends. The constructor of a class that extends it takes arguments of its own. */
function ownClass<C extends MapClass>(Class: C): C {
  let own = Class;
  while (!Object.hasOwn(own, "kind")) own = Object.getPrototypeOf(own) as C;
  return own;
}

/**
 * The base class of all maps: an owned descriptor, and the properties of the map. The classes of the map types add their
 * operations.
 *
 * A map lives until it is disposed of (`using`, or `map[Symbol.dispose]()`) or the process ends; the kernel keeps it for
 * as long as a program uses it or a path pins it. Garbage collection never closes it.
 */
export abstract class BpfMap<Name extends MapTypeName = MapTypeName> extends KernelObject {
  /** @internal */
  protected readonly handle: MapHandle;

  /** @internal Classes of maps are constructed by their own options. */
  protected constructor(handle: MapHandle) {
    super(handle.descriptor, () => handle.info.id, handle.pinnedAt);
    this.handle = handle;
  }

  /**
   * Opens the map pinned at a path on a BPF file system (kernel 4.4).
   *
   * The sizes of key and value are compared with those of the map, but not their types: reading types from the kernel is slow, and
   * few maps of other programs would pass. `checkMapTypes(map)` compares the types.
   *
   * @param options the types of its keys, values or events, as the constructor takes them, and {@link OpenMapOptions}
   * @throws {TypeError} when it is another kind of map, or its key or value has another size, and for an unknown option
   * @throws {BpfError} `EACCES` when the path is not on a BPF file system, or this user may not open it
   * @throws {Error} when nothing is pinned there
   *
   * @example
   * ```ts
   * import { HashMap, t } from "bun-bpf";
   * try {
   *   using counts = HashMap.open("/sys/fs/bpf/counts", { key: t.u32, value: t.u64 });
   *   console.log(counts.toMap());
   * } catch (error) {
   *   console.error(String(error)); // nothing is pinned at /sys/fs/bpf/counts: no such file
   * }
   * ```
   */
  static open<C extends MapClass, const A extends OpenArguments<C>>(
    this: C,
    path: string,
    ...options: CheckedArguments<C, A>
  ): MapOf<C, A[0]> {
    return new (ownClass(this))(this.kind.open({ path }, options[0]) as never) as MapOf<C, A[0]>;
  }

  /** Opens a map by its id (kernel 4.13, CAP_SYS_ADMIN). @throws as {@link open} */
  static fromId<C extends MapClass, const A extends OpenArguments<C>>(
    this: C,
    id: number,
    ...options: CheckedArguments<C, A>
  ): MapOf<C, A[0]> {
    return new (ownClass(this))(this.kind.open({ id }, options[0]) as never) as MapOf<C, A[0]>;
  }

  /**
   * Opens the map of a descriptor by a duplicate with the same rights. The descriptor itself stays the caller's.
   *
   * @throws {TypeError} for flags that are not those of the descriptor; else as {@link open}
   */
  static fromFd<C extends MapClass, const A extends OpenArguments<C>>(
    this: C,
    fd: number,
    ...options: CheckedArguments<C, A>
  ): MapOf<C, A[0]> {
    return new (ownClass(this))(this.kind.open({ fd }, options[0]) as never) as MapOf<C, A[0]>;
  }

  /**
   * Opens the same map as a second object, with its own descriptor and lifetime. Its class is the library's, also where that
   * was extended.
   *
   * @throws {DisposedError} after disposal
   */
  dup(): Duplicate<this> {
    const Class = ownClass(this.constructor as MapClass);
    return new Class(this.handle.duplicate() as never) as Duplicate<this>;
  }

  /** The name given at creation; may be empty. */
  get name(): string {
    return this.handle.info.name;
  }

  /** The map type: `"hash"`, `"lru_hash"`, ... */
  get type(): Name {
    // Checked when the map was opened.
    return this.handle.info.type as Name;
  }

  /** Bytes of a key; 0 for kinds without keys. */
  get keySize(): number {
    return this.handle.info.keySize;
  }

  /** Bytes of a value; 0 for kinds without values. */
  get valueSize(): number {
    return this.handle.info.valueSize;
  }

  /** The largest number of entries; for a ring buffer, its size in bytes. */
  get maxEntries(): number {
    return this.handle.info.maxEntries;
  }

  /** The kernel's bits (`BPF_F_*`) that the map was created with. */
  get flags(): number {
    return this.handle.info.flags;
  }

  protected shown(): readonly [className: string, properties: object] {
    const { name, type, keySize, valueSize, maxEntries } = this.handle.info;
    const Class = this.constructor as MapClass;
    // Bundlers shorten the names of classes.
    const className = Object.hasOwn(Class, "kind") ? Class.kind.className : Class.name;
    return [className, { type, name, keySize, valueSize, maxEntries }];
  }

  /** Reads the properties and the state of the map from the kernel (kernel 4.13). @throws {BpfError} */
  info(): MapInfo {
    return readMapInfo(this.fd, `${this}`);
  }

  /**
   * Forbids changes by user space from now on, for good. Programs can still change the map (kernel 5.2).
   *
   * @throws {BpfError} `EPERM` when it is frozen already, `EBUSY` when it is mapped writable
   */
  freeze(): this {
    freezeKernelMap(this.fd, `${this}`);
    return this;
  }
}
