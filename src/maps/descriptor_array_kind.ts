import { possibleCpus } from "../ffi/cpus.ts";
import { u32 } from "../types/integer.ts";
import { MapKind } from "./kind.ts";
import { checkMaxEntries, type CommonMapOptions, type MapTypeName } from "./spec.ts";

/** Options of arrays whose values have no type of their own, as descriptors of programs or sockets. */
export interface DescriptorArrayOptions extends CommonMapOptions {
  /** The length: 1 to 2^32 - 1. All places are empty at first. */
  readonly maxEntries: number;
}

/** Options of arrays with a place for each CPU. */
export interface CpuArrayOptions extends CommonMapOptions {
  /** The length: 1 to 2^32 - 1. @default a place for each CPU that this machine could have */
  readonly maxEntries?: number;
}

/** Types of maps that have none to choose. */
export const noTypes: object = {};

/** The kind of a class of arrays whose values have no type of their own. */
export function descriptorArrayKind(
  type: MapTypeName,
  className: string,
  valueSize: number,
): MapKind<object, DescriptorArrayOptions> {
  return untypedArrayKind(type, className, valueSize);
}

/** The same for arrays with a place for each CPU. */
export function cpuArrayKind(
  type: MapTypeName,
  className: string,
  valueSize: number,
): MapKind<object, CpuArrayOptions> {
  return untypedArrayKind(type, className, valueSize, () => largestCpu() + 1);
}

/** @param usualLength of an array without the option `maxEntries`, which is asked for otherwise */
function untypedArrayKind<Options extends CpuArrayOptions>(
  type: MapTypeName,
  className: string,
  valueSize: number,
  usualLength?: () => number,
): MapKind<object, Options> {
  return new MapKind({
    type,
    className,
    options: ["maxEntries"],
    // Maps that others made may have smaller values, as the kernel made do with in the beginning.
    sizes: () => ({ keySize: u32.size }),
    // Without a usual length, what is left out is refused as what it is.
    complete({ maxEntries = usualLength?.() as number }) {
      checkMaxEntries(maxEntries);
      return { maxEntries, valueSize };
    },
  });
}

/** Ids may be left out: there can be fewer CPUs than this. */
function largestCpu(): number {
  return Math.max(...possibleCpus());
}
