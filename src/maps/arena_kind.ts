import { pageSize } from "../ffi/memory.ts";
import { checkCount } from "../types/argument.ts";
import { describe } from "../types/refusal.ts";
import { BPF_F_MMAPABLE } from "../uapi/bpf.ts";
import { MapKind } from "./kind.ts";
import type { CommonMapOptions } from "./spec.ts";

/** Where an arena is. */
export interface ArenaPlace {
  /**
   * The address of its memory, the same in every process: a multiple of the page size, so that the arena lies within 4 GiB
   * that begin at a multiple of 4 GiB. One far from where the system puts things is likely to be free: `2 ** 44`, or `2 ** 32` on
   * arm64.
   *
   * @default the arena's own `map_extra`; without that, wherever there is room
   */
  readonly address?: number | bigint;
}

/** Options of {@link Arena}. */
export interface ArenaOptions extends Omit<CommonMapOptions, "numaNode">, ArenaPlace {
  /** Its size in pages (4096 bytes on x86-64): at most 4 GiB. Each takes memory once it is used. */
  readonly pages: number;
}

/** What the low half of a pointer reaches: all that programs use of one. */
const reach = 2 ** 32;

/** How arenas are made and opened. */
export const arenaKind: MapKind<ArenaPlace, ArenaOptions> = new MapKind({
  type: "arena",
  className: "Arena",
  options: ["pages", "address"],
  sizes(place) {
    addressOf(place);
    return { keySize: 0, valueSize: 0 };
  },
  complete(options) {
    const { pages } = options;
    const page = pageSize();
    checkCount("pages", pages, 1, reach / page);
    const address = addressOf(options);
    const last = address + pages * page - 1;
    if (Math.floor(address / reach) !== Math.floor(last / reach)) {
      throw new RangeError(
        `address: ${pages} pages at 0x${address.toString(16)} cross a multiple of 4 GiB, which an arena must not`,
      );
    }
    if ((options as CommonMapOptions).numaNode !== undefined) {
      throw new TypeError("numaNode: an arena is on no node of its own");
    }
    return { maxEntries: pages, mapExtra: address, flags: BPF_F_MMAPABLE };
  },
});

/** The address that is asked for, or 0. @throws {TypeError | RangeError} */
export function addressOf({ address }: ArenaPlace): number {
  if (address === undefined) return 0;
  if (typeof address !== "number" && typeof address !== "bigint") {
    throw new TypeError(`address: expected a number or a bigint, got ${describe(address)}`);
  }
  const number = Number(address);
  if (!Number.isSafeInteger(number) || number < 0 || number % pageSize() !== 0) {
    throw new RangeError(
      `address: expected a multiple of the page size (${pageSize()}), got ${describe(address)}`,
    );
  }
  return number;
}
