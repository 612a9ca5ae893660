import { checkCount } from "../types/argument.ts";
import { BPF_ANY } from "../uapi/bpf.ts";
import { ElementMap } from "./element_map.ts";
import type { MapHandle } from "./handle.ts";
import { noKey } from "./keyless.ts";
import { valueKind, type ValueMapOptions, type ValueTypes } from "./value_kind.ts";

/** Options of {@link BloomFilter}: `maxEntries` is how many values it is made for; more can be added, at worse odds. */
export interface BloomFilterOptions<V> extends ValueMapOptions<V> {
  /** How many hash functions: 1 to 15. More make fewer errors and cost more. @default 5 (the kernel's choice) */
  readonly hashes?: number;
}

/**
 * A Bloom filter: whether a value was added for certain not, or probably. It takes little memory whatever the size of the
 * values, and spares programs look-ups in large maps.
 *
 * Kernel 5.16. Values cannot be removed, nor listed.
 *
 * @throws {BpfError} `EPERM` without CAP_BPF, `EINVAL` before kernel 5.16
 * @throws {TypeError | RangeError} for options that are misspelt, of the wrong type or out of range
 *
 * @example
 * ```ts
 * import { BloomFilter, t } from "bun-bpf";
 * using seen = new BloomFilter({ value: t.ipv4, maxEntries: 10_000, hashes: 3 });
 * seen.add("192.0.2.1");
 * console.log(seen.has("192.0.2.1"), seen.has("198.51.100.7")); // true false
 * ```
 */
export class BloomFilter<V> extends ElementMap<undefined, V> {
  /** @internal */
  static readonly kind = valueKind(
    "bloom-filter",
    "BloomFilter",
    ["hashes"],
    ({ hashes, value }: BloomFilterOptions<unknown>) => {
      if (hashes !== undefined) checkCount("hashes", hashes, 1, 15);
      return { mapExtra: hashes ?? 0, types: { value } };
    },
  );
  /** The type that values are written with. */
  readonly types: ValueTypes<V>;

  constructor(options: BloomFilterOptions<V>);
  /** @internal */
  constructor(types: ValueTypes<V>, existing: MapHandle);
  constructor(options: ValueTypes<V>, existing = BloomFilter.kind.create(options)) {
    const { value } = options;
    super(existing, { key: noKey, value });
    this.types = { value };
  }

  /** Opens the filter pinned at a path on a BPF file system. @throws as {@link HashMap.open} */
  static open<V>(path: string, types: ValueTypes<V>): BloomFilter<V> {
    return new BloomFilter(types, BloomFilter.kind.open(path, types));
  }

  /** Opens a filter by its id (CAP_SYS_ADMIN). @throws as {@link HashMap.open} */
  static fromId<V>(id: number, types: ValueTypes<V>): BloomFilter<V> {
    return new BloomFilter(types, BloomFilter.kind.byId(id, types));
  }

  /** Opens the filter behind a descriptor, which stays the caller's: this is a duplicate. @throws as {@link HashMap.open} */
  static fromFd<V>(fd: number, types: ValueTypes<V>): BloomFilter<V> {
    return new BloomFilter(types, BloomFilter.kind.byFd(fd, types));
  }

  /** Adds a value. @throws {TypeError | RangeError} for a value that its type refuses */
  add(value: V): this {
    this.update(undefined, value, BPF_ANY);
    return this;
  }

  /** False for a value that was never added; true for one that was, and by mistake for a few others. */
  has(value: V): boolean {
    const element = this.begin();
    try {
      // The kernel reads the value where it writes those of other kinds.
      this.write("value", this.types.value, element.view, element.valueOffset, value);
      void this.fd;
      return element.lookup(0);
    } finally {
      this.end(element);
    }
  }

  override dup(): BloomFilter<V> {
    return new BloomFilter(this.types, this.duplicateHandle());
  }
}
