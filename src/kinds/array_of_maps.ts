import type { MapHandle } from "../maps/handle.ts";
import { checkIndex } from "../maps/index_check.ts";
import { IndexWalk } from "../maps/index_walk.ts";
import { MapKind } from "../maps/kind.ts";
import { checkMaxEntries, type CommonMapOptions } from "../maps/spec.ts";
import type { Walk } from "../maps/walk.ts";
import { u32 } from "../types/integer.ts";
import {
  checkInner,
  type InnerMap,
  type InnerMapOptions,
  innerMapSpec,
  type InnerMapTypes,
} from "./inner_map.ts";
import { MapOfMaps } from "./map_of_maps.ts";

/** The types of the maps in an {@link ArrayOfMaps}. */
export interface ArrayOfMapsTypes<I extends InnerMapTypes> {
  readonly inner: I;
}

/** Options of {@link ArrayOfMaps}. */
export interface ArrayOfMapsOptions<I extends InnerMapTypes>
  extends CommonMapOptions, ArrayOfMapsTypes<I> {
  /** What the maps in it are like: the options of their class, and its kind as `type`. */
  readonly inner: I & InnerMapOptions;
  /** The length: 1 to 2^32 - 1. */
  readonly maxEntries: number;
}

/**
 * An array of maps, empty at first: programs look a map up by its index, and then a value in that map. A ring buffer for
 * each CPU is its usual use.
 *
 * Kernel 4.12. All maps in it are alike, as in {@link HashOfMaps}.
 *
 * @throws {BpfError} `EPERM` without CAP_BPF, `EINVAL` for an inner kind or flag that the kernel does not take
 * @throws {TypeError | RangeError} for options that are misspelt, of the wrong type or out of range
 *
 * @example
 * ```ts
 * import { ArrayOfMaps, possibleCpus, RingBuf, t } from "bun-bpf";
 * const events = { event: t.u64n, size: 4096 };
 * const cpus = possibleCpus();
 * using rings = new ArrayOfMaps({ maxEntries: Math.max(...cpus) + 1, inner: { type: "ringbuf", ...events } });
 * for (const cpu of cpus) {
 *   using ring = new RingBuf(events);
 *   rings.set(cpu, ring);
 * }
 * console.log(rings.count() === cpus.length); // true
 * ```
 */
export class ArrayOfMaps<I extends InnerMapTypes> extends MapOfMaps<number, I> {
  /** @internal */
  static readonly kind = new MapKind<
    ArrayOfMapsTypes<InnerMapTypes>,
    ArrayOfMapsOptions<InnerMapOptions>
  >({
    type: "array-of-maps",
    className: "ArrayOfMaps",
    options: ["inner", "maxEntries"],
    sizes({ inner }) {
      checkInner(inner);
      return { keySize: u32.size, valueSize: u32.size };
    },
    complete({ inner, maxEntries }) {
      checkMaxEntries(maxEntries);
      return { maxEntries, inner: innerMapSpec(inner) };
    },
  });
  /** The types of the maps. */
  readonly types: ArrayOfMapsTypes<I>;

  constructor(options: ArrayOfMapsOptions<I>);
  /** @internal */
  constructor(types: ArrayOfMapsTypes<I>, existing: MapHandle);
  constructor(options: ArrayOfMapsTypes<I>, existing = ArrayOfMaps.kind.create(options)) {
    const { inner } = options;
    super(existing, u32, inner);
    this.types = { inner };
  }

  /** Opens the array pinned at a path on a BPF file system. @throws as {@link HashMap.open} */
  static open<I extends InnerMapTypes>(path: string, types: ArrayOfMapsTypes<I>): ArrayOfMaps<I> {
    return new ArrayOfMaps(types, ArrayOfMaps.kind.open(path, types));
  }

  /** Opens an array by its id (kernel 4.13, CAP_SYS_ADMIN). @throws as {@link HashMap.open} */
  static fromId<I extends InnerMapTypes>(id: number, types: ArrayOfMapsTypes<I>): ArrayOfMaps<I> {
    return new ArrayOfMaps(types, ArrayOfMaps.kind.byId(id, types));
  }

  /** Opens the array behind a descriptor, which stays the caller's: this is a duplicate. @throws as {@link HashMap.open} */
  static fromFd<I extends InnerMapTypes>(fd: number, types: ArrayOfMapsTypes<I>): ArrayOfMaps<I> {
    return new ArrayOfMaps(types, ArrayOfMaps.kind.byFd(fd, types));
  }

  /** How many places there are: `maxEntries`. */
  get length(): number {
    return this.maxEntries;
  }

  /** Stores a map at an index. @throws {RangeError} for an index outside the array; else as {@link MapOfMaps.set} */
  override set(index: number, map: InnerMap<I>): this {
    checkIndex(this, index);
    return super.set(index, map);
  }

  /** Empties a place; whether a map was there. @throws {RangeError} for an index outside the array */
  override delete(index: number): boolean {
    checkIndex(this, index);
    return super.delete(index);
  }

  override dup(): ArrayOfMaps<I> {
    return new ArrayOfMaps(this.types, this.duplicateHandle());
  }

  /** @internal */
  protected override walk(): Walk {
    return new IndexWalk(this.walked);
  }
}
