import { freezeKernelMap } from "../ffi/bpf_map.ts";
import { KernelObject } from "../handle/kernel_object.ts";
import { type MapHandle, type MapInfo, readMapInfo } from "./create.ts";
import type { CheckedArguments, MapClass, MapOf, OpenArguments } from "./map_options.ts";
import type { MapTypeName } from "./map_types.ts";

/**
 * Type of the object that {@link BpfMap.dup} returns: the type of the map itself, but for a perf buffer the type of its map.
 */
export type Duplicate<M> = M extends { readonly [duplicateType]?: infer D extends BpfMap } ? D : M;

/** Key of a type-level property that overrides the result type of {@link BpfMap.dup}. No object has the property. */
export declare const duplicateType: unique symbol;

/**
 * Returns the class of this library that `Class` is or extends. Constructors of the user's subclasses can take other
 * arguments.
 */
function ownClass<C extends MapClass>(Class: C): C {
  let own = Class;
  while (!Object.hasOwn(own, "kind")) own = Object.getPrototypeOf(own) as C;
  return own;
}

/**
 * Base class of all maps: an owned descriptor, the properties of the map, and the methods that open a map. The class of each
 * map type adds its operations.
 *
 * A map object lives until it is disposed of (`using`, or `map[Symbol.dispose]()`) or the process ends. Garbage collection
 * never disposes of a map object. The kernel keeps the map while a descriptor, a program, another map or a pin refers to it.
 *
 * Creation requires the capabilities that the classes name; before Linux 5.8, which introduced CAP_BPF, it requires
 * CAP_SYS_ADMIN. If the sysctl kernel.unprivileged_bpf_disabled is 0, some map types require none.
 */
export abstract class BpfMap<Name extends MapTypeName = MapTypeName> extends KernelObject {
  /** @internal */
  protected readonly handle: MapHandle;

  /** @internal */
  protected constructor(handle: MapHandle) {
    super(handle.descriptor, () => handle.info.id, handle.pinnedAt);
    this.handle = handle;
  }

  /**
   * Opens the map that is pinned at a path of a BPF file system. The class must match the map type.
   *
   * The sizes of keys and values are compared with those of the map, but not their types. `checkMapTypes(map)` compares the
   * types. Opening does not compare types, because that is slow and few maps of other programs would pass.
   *
   * @param options types of the map's keys, values or events, as the constructor takes them, and {@link OpenMapOptions}
   * @throws {TypeError} if the map has another map type or its keys or values have another size, or if an option is
   *   unknown.
   * @throws {BpfError} EACCES if the path is not on a BPF file system, or if this user may not open the file.
   * @throws {BpfError} ENOENT if nothing is pinned at the path, EPERM if a name in the path has a dot.
   *
   * @example
   * ```ts
   * import { HashMap, t } from "bun-bpf";
   * try {
   *   using counts = HashMap.open("/sys/fs/bpf/counts", { key: t.u32, value: t.u64 });
   *   console.log(counts.toMap());
   * } catch (error) {
   *   console.error(String(error)); // ... ENOENT (no such file or directory). Nothing is pinned at /sys/fs/bpf/counts
   * }
   * ```
   *
   * Requires Linux 4.13.
   */
  static open<C extends MapClass, const A extends OpenArguments<C>>(
    this: C,
    path: string,
    ...options: CheckedArguments<C, A>
  ): MapOf<C, A[0]> {
    return new (ownClass(this))(this.kind.open({ path }, options[0]) as never) as MapOf<C, A[0]>;
  }

  /**
   * Opens the map with an id. The class must match the map type, and the sizes of keys and values are compared as by
   * {@link open}.
   *
   * @param options types of the map's keys, values or events, as the constructor takes them, and {@link OpenMapOptions}
   * @throws {TypeError} if the map has another map type or its keys or values have another size, or if an option is
   *   unknown.
   * @throws {BpfError} EPERM if this process lacks CAP_SYS_ADMIN.
   * @throws {BpfError} ENOENT if no map has the id.
   *
   * Requires Linux 4.13 and CAP_SYS_ADMIN.
   */
  static fromId<C extends MapClass, const A extends OpenArguments<C>>(
    this: C,
    id: number,
    ...options: CheckedArguments<C, A>
  ): MapOf<C, A[0]> {
    return new (ownClass(this))(this.kind.open({ id }, options[0]) as never) as MapOf<C, A[0]>;
  }

  /**
   * Opens the map of a descriptor. The object has a duplicate of the descriptor with the same access rights: the given
   * descriptor remains the caller's. The class must match the map type, and the sizes of keys and values are compared as by
   * {@link open}.
   *
   * @param options types of the map's keys, values or events, as the constructor takes them, and {@link OpenMapOptions}
   * @throws {TypeError} if the map has another map type or its keys or values have another size, if an option is unknown,
   *   or if `flags` are not the access rights of the descriptor.
   * @throws {BpfError} EBADF if the descriptor is not open.
   */
  static fromFd<C extends MapClass, const A extends OpenArguments<C>>(
    this: C,
    fd: number,
    ...options: CheckedArguments<C, A>
  ): MapOf<C, A[0]> {
    return new (ownClass(this))(this.kind.open({ fd }, options[0]) as never) as MapOf<C, A[0]>;
  }

  /**
   * Opens the same map as a second object with its own descriptor and lifetime. If the class of this object extends a class
   * of this library, the result is an object of the library's class.
   *
   * @throws {DisposedError} after disposal.
   */
  dup(): Duplicate<this> {
    const Class = ownClass(this.constructor as MapClass);
    return new Class(this.handle.duplicate() as never) as Duplicate<this>;
  }

  /** Name that the map was created with, or `""`. */
  get name(): string {
    return this.handle.info.name;
  }

  /** Map type: `"hash"`, `"lru_hash"`, ... */
  get type(): Name {
    // adopt() checked the type when the map was opened.
    return this.handle.info.type as Name;
  }

  /** Size of a key in bytes; 0 for map types without keys. */
  get keySize(): number {
    return this.handle.info.keySize;
  }

  /** Size of a value in bytes, for one CPU in per-CPU maps; 0 for map types without values. */
  get valueSize(): number {
    return this.handle.info.valueSize;
  }

  /** Largest number of entries, or the size of a ring buffer in bytes. */
  get maxEntries(): number {
    return this.handle.info.maxEntries;
  }

  /** Flags that the map was created with: the kernel's bits (`BPF_F_*`). */
  get flags(): number {
    return this.handle.info.flags;
  }

  /** @internal Returns the class name and the properties that `console.log` prints. */
  protected shown(): readonly [className: string, properties: object] {
    const { name, type, keySize, valueSize, maxEntries } = this.handle.info;
    const Class = this.constructor as MapClass;
    // Bundlers rename classes, but `kind` keeps the original name.
    const className = Object.hasOwn(Class, "kind") ? Class.kind.className : Class.name;
    return [className, { type, name, keySize, valueSize, maxEntries }];
  }

  /**
   * Returns the properties and the current state of the map, read from the kernel.
   *
   * @throws {BpfError} if the kernel rejects the call.
   * @throws {DisposedError} after disposal.
   *
   * Requires Linux 4.13.
   */
  info(): MapInfo {
    return readMapInfo(this.fd, `${this}`);
  }

  /**
   * Forbids all further changes by user space, irreversibly. Programs can still change the map.
   *
   * @throws {BpfError} EPERM if the map is frozen already (EBUSY on kernels before 6.5), or if this object may not write the
   *   map.
   * @throws {BpfError} EBUSY if its memory is mapped writable.
   * @throws {BpfError} ENOTSUPP if its values have a spin lock or timer, or if the map type cannot be frozen.
   * @throws {DisposedError} after disposal.
   *
   * Requires Linux 5.2.
   */
  freeze(): this {
    freezeKernelMap(this.fd, `${this}`);
    return this;
  }
}
