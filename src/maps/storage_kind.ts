import { i32 } from "../types/integer.ts";
import { describe } from "../types/refusal.ts";
import { suggest } from "../types/suggestion.ts";
import type { Type } from "../types/type.ts";
import { BPF_F_NO_PREALLOC } from "../uapi/bpf.ts";
import { checkValueType } from "./type_checks.ts";
import { MapKind } from "./kind.ts";
import type { CommonMapOptions, MapFlag, MapTypeName } from "./spec.ts";

/** The type of the values that are kept with objects of the kernel. */
export interface StorageTypes<V> {
  readonly value: Type<V>;
}

/** Options that every kind of storage takes. There is no number of entries: each object has room for one value. */
export interface StorageOptions<V, Flag extends MapFlag = "no-prealloc">
  extends Pick<CommonMapOptions, "name" | "pin">, StorageTypes<V> {
  /** Names of flags, or the kernel's bits; `"no-prealloc"`, which the kernel asks for, is always among them. @default none */
  readonly flags?: readonly Flag[] | number;
}

/** The kind of a class of storage. */
export function storageKind<Flag extends MapFlag>(
  type: MapTypeName,
  className: string,
  flagNames: readonly Flag[],
): MapKind<StorageTypes<unknown>, StorageOptions<unknown, Flag>> {
  return new MapKind({
    type,
    className,
    options: ["value"],
    sizes({ value }) {
      checkValueType(value);
      // To user space the key is the descriptor of an object; programs have the object itself.
      return { keySize: i32.size, valueSize: value.size };
    },
    complete(options) {
      checkFlags(className, options.flags, flagNames);
      if ((options as CommonMapOptions).numaNode !== undefined) {
        throw new TypeError(
          `numaNode: the kernel allocates the values of ${className} where they are stored`,
        );
      }
      const types = { key: i32, value: options.value };
      return { maxEntries: 0, flags: BPF_F_NO_PREALLOC, types };
    },
  });
}

/** The kernel would take `"clone"` for every kind of storage, and heed it for sockets alone. */
function checkFlags(className: string, flags: unknown, names: readonly MapFlag[]): void {
  if (!Array.isArray(flags)) return;
  const wrong: unknown = flags.find((flag) => !names.includes(flag as MapFlag));
  if (wrong === undefined) return;
  throw new TypeError(
    `flags: ${className} takes no flag ${describe(wrong)}: ${suggest(String(wrong), names)}`,
  );
}
