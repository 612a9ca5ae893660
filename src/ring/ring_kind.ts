import { pageSize } from "../ffi/memory.ts";
import { checkPlainType } from "../maps/type_checks.ts";
import { MapKind } from "../maps/kind.ts";
import type { CommonMapOptions, MapTypeName } from "../maps/spec.ts";
import { describe } from "../types/refusal.ts";
import type { Type } from "../types/type.ts";

/** The type of a ring buffer's events. */
export interface RingBufTypes<E> {
  /** The layout of a record. Records may be longer, never shorter. */
  readonly event: Type<E>;
}

/** Options of {@link RingBuf}. */
export interface RingBufOptions<E> extends CommonMapOptions, RingBufTypes<E> {
  /**
   * Bytes: a power of two and a multiple of the page size (4096 on x86-64); at most 2^30, as the engine maps no more than
   * twice that and a page in one piece (for a {@link UserRingBuf} 2^31).
   */
  readonly size: number;
}

/** The kind of a class of ring buffers. @param largest bytes: a power of two */
export function ringKind(
  type: MapTypeName,
  className: string,
  largest: number,
): MapKind<RingBufTypes<unknown>, RingBufOptions<unknown>> {
  return new MapKind({
    type,
    className,
    options: ["event", "size"],
    sizes({ event }) {
      checkPlainType("event", event);
      return { keySize: 0, valueSize: 0 };
    },
    complete({ size }) {
      checkBufferSize("a ring buffer", size, largest);
      return { maxEntries: size };
    },
  });
}

/**
 * Checks the size of a buffer that programs write to.
 *
 * @param what the kind of buffer, for messages
 * @throws {RangeError} that names a size which would do
 */
export function checkBufferSize(what: string, size: number, largest: number): void {
  const page = pageSize();
  if (Number.isInteger(size) && size >= page && size <= largest && Math.log2(size) % 1 === 0)
    return;
  const nearest = 2 ** Math.max(Math.ceil(Math.log2(Number(size) || 1)), Math.log2(page));
  throw new RangeError(
    `size: ${what} takes a power of two that is a multiple of the page size (${page}) and at most 2^${Math.log2(largest)}, got ${describe(size)}${nearest <= largest ? `; ${nearest} would do` : ""}`,
  );
}
