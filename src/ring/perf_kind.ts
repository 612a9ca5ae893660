import { possibleCpus } from "../ffi/cpus.ts";
import { MapKind } from "../maps/kind.ts";
import type { CommonMapOptions } from "../maps/spec.ts";
import { checkPlainType } from "../maps/type_checks.ts";
import { checkCount, checkOptions } from "../types/argument.ts";
import { u32 } from "../types/integer.ts";
import { checkBufferSize, type RingBufTypes } from "./ring_kind.ts";

/** The type of a perf buffer's events, and the buffers that are made for them. */
export interface PerfBufferTypes<E> extends RingBufTypes<E> {
  /**
   * Bytes of the buffer of each CPU: a power of two and a multiple of the page size (4096 on x86-64), at most 2^30.
   *
   * @default 65536
   */
  readonly size?: number;
  /**
   * Bytes that programs write on a CPU from one wake-up of the consumer to the next: 1 to half of `size`. What is below that
   * waits until more comes, or until somebody looks: `flush()`, or `maxLatency` of the consumer.
   *
   * @default none: each record wakes
   */
  readonly watermark?: number;
}

/** Options of {@link PerfBuffer}. */
export interface PerfBufferOptions<E> extends CommonMapOptions, PerfBufferTypes<E> {}

/** The buffers of a {@link PerfBuffer}. */
export interface PerfLayout {
  /** Bytes of the buffer of each CPU. */
  readonly size: number;
  readonly watermark: number | undefined;
}

const usualSize = 64 * 1024;
const largestSize = 2 ** 30;
const typeNames = ["event", "size", "watermark"] as const;

/** What options say of the buffers, checked. @throws {RangeError} */
export function perfLayout({ size = usualSize, watermark }: PerfBufferTypes<unknown>): PerfLayout {
  checkBufferSize("the buffer of a CPU", size, largestSize);
  // A record that does not fit writes nothing and so wakes nobody: above the half, long ones could wait for each other.
  if (watermark !== undefined) checkCount("watermark", watermark, 1, size / 2);
  return { size, watermark };
}

/** Checks the names of what an existing map is opened with. @throws {TypeError} */
export function checkPerfTypes<E>(types: PerfBufferTypes<E>): PerfBufferTypes<E> {
  checkOptions("PerfBuffer", types, typeNames);
  return types;
}

/** The kind of {@link PerfBuffer}. */
export const perfKind: MapKind<PerfBufferTypes<unknown>, PerfBufferOptions<unknown>> = new MapKind({
  type: "perf-event-array",
  className: "PerfBuffer",
  options: typeNames,
  sizes(types: PerfBufferTypes<unknown>) {
    checkPlainType("event", types.event);
    perfLayout(types);
    return { keySize: u32.size, valueSize: u32.size };
  },
  // Ids of CPUs may be left out: there can be fewer CPUs than this.
  complete: () => ({ maxEntries: Math.max(...possibleCpus()) + 1 }),
});
