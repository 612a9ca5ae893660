import { ARENA } from "./map_types.ts";
import { checkCount } from "../check/arguments.ts";
import { describe } from "../check/describe.ts";
import { ArenaMemory, mappedArenaAddress } from "../ffi/arena_memory.ts";
import { pageSize } from "../ffi/mapped_memory.ts";
import { BpfMap, type Duplicate } from "./bpf_map.ts";
import { MapHandle } from "./create.ts";
import { MapKind } from "./map_options.ts";
import type { CommonMapOptions } from "./map_spec.ts";

declare module "./map_options.ts" {
  interface MapClasses<T> {
    Arena: Arena;
  }
}

/** The place of an arena in memory. */
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

/** Bytes that the low half of a pointer reaches: programs use no more of one. */
const windowBytes = 2 ** 32;

/** The address that is asked for, or 0. @throws {TypeError | RangeError} */
function requestedAddress({ address }: ArenaPlace): number {
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

/**
 * An arena: memory that programs and processes share, in which pointers mean the same to all of them.
 *
 * Kernel 6.9, on machines whose BPF compiler has arenas (x86-64, and arm64 since 6.10). Up to 4 GiB of addresses; a page
 * takes memory once a program has allocated it with `bpf_arena_alloc_pages`, or user space has touched it. With the flag
 * `"segv_on_fault"` touching does not allocate. Programs read zeros from a page that is not there, and what they store to
 * it is lost.
 *
 * The memory is mapped when the arena is created: before that the kernel takes no program that uses it. The kernel wants it
 * at the same address in every process that maps it. That is where the first one has it, or, for an arena that others are
 * to open, the option `address`.
 *
 * An arena that is opened is mapped when `view` or `address` is first asked for. `open` and its kin take the `address` of one that
 * was mapped before and was created without one.
 *
 * A process maps an arena once. Objects of one arena in one thread share the mapping; a second thread of the process is
 * refused.
 *
 * @throws {BpfError} `EPERM` without CAP_BPF, `EINVAL` before kernel 6.9, `EOPNOTSUPP` where the BPF compiler has none;
 *   `EEXIST` when the address is in use in this process
 * @throws {TypeError | RangeError} for options that are misspelt, of the wrong type or out of range
 *
 * @example
 * ```ts
 * import { Arena } from "bun-bpf";
 * using arena = new Arena({ pages: 16, name: "shared" });
 * arena.view.setUint32(8, 42, true);
 * console.log(arena.size === arena.view.byteLength); // true
 * console.log(`${arena.size} bytes at 0x${arena.address.toString(16)}`);
 * ```
 */
export class Arena extends BpfMap<"arena"> {
  static readonly kind = /*@__PURE__*/ new MapKind<"Arena", ArenaPlace, ArenaOptions>({
    row: ARENA,
    className: "Arena",
    types: ["address"],
    defaultTypes: {},
    options: ["pages"],
    sizes(place) {
      requestedAddress(place);
      return { keySize: 0, valueSize: 0 };
    },
    complete(options) {
      const { pages } = options;
      const page = pageSize();
      checkCount("pages", pages, 1, windowBytes / page);
      const address = requestedAddress(options);
      const last = address + pages * page - 1;
      if (Math.floor(address / windowBytes) !== Math.floor(last / windowBytes)) {
        throw new RangeError(
          `address: ${pages} pages at 0x${address.toString(16)} cross a multiple of 4 GiB, which an arena must not`,
        );
      }
      if ((options as CommonMapOptions).numaNode !== undefined) {
        throw new TypeError("numaNode: an arena is on no node of its own");
      }
      return { maxEntries: pages, mapExtra: address };
    },
  });
  /** The address that the memory has to be at, or 0. */
  readonly #address: number;
  #memory: ArenaMemory | undefined;
  #view: DataView | undefined;

  constructor(options: ArenaOptions) {
    const isNew = !(options instanceof MapHandle);
    const handle = Arena.kind.handle(options);
    super(handle);
    try {
      this.#address = this.#resolveAddress(requestedAddress(handle.types));
      // An arena that is opened is mapped when `view` or `address` is first asked for.
      if (isNew) this.#map();
    } catch (error) {
      handle.abandon();
      throw error;
    }
  }

  /** The size in pages: `maxEntries`. */
  get pages(): number {
    return this.maxEntries;
  }

  /** The size in bytes. */
  get size(): number {
    return this.pages * pageSize();
  }

  /**
   * The address of the first byte in this process: pointers in the arena's memory are such addresses.
   *
   * @throws {BpfError} as {@link view}
   */
  get address(): number {
    return this.#map().address;
  }

  /**
   * The memory itself, no copy: programs change it at any time, and see what is stored.
   *
   * Touching a page allocates it, zeroed. Where the kernel has no memory for it (the limit of the control group, say), or the
   * arena has the flag `"segv_on_fault"` and no program has allocated the page, that ends the process. What goes for
   * the view of an `ArrayMap` goes here: in a loop that waits for a change, read by `Atomics.load` of an integer array over
   * `view.buffer`. Disposal of this object detaches the view.
   *
   * @throws {BpfError} for an arena that was opened: `EINVAL` when it was mapped before at an address that this object does
   *   not know, `EEXIST` when this process has something else there, or another of its threads has the arena
   *
   * @example
   * ```ts
   * import { Arena } from "bun-bpf";
   * using arena = new Arena({ pages: 1 });
   * using other = arena.dup();
   * arena.view.setUint32(0, 7, true);
   * console.log(other.view.getUint32(0, true)); // 7
   * ```
   */
  get view(): DataView {
    const { buffer } = this.#map();
    this.#view ??= new DataView(buffer);
    return this.#view;
  }

  override dup(): Duplicate<this> {
    // With the address that this object knows: the one that mapped the arena may be gone.
    const handle = this.handle.duplicate({ address: this.#address });
    return new Arena(handle as never) as Duplicate<this>;
  }

  /** The one address that the kernel takes, as far as it is known: what it was created with, or where this thread has it. */
  #resolveAddress(address: number): number {
    const known = this.info().mapExtra || mappedArenaAddress(this.id);
    if (known !== undefined && address !== 0 && address !== known) {
      throw new TypeError(
        `${this} does not fit: its address is 0x${known.toString(16)}, not 0x${address.toString(16)}`,
      );
    }
    return known ?? address;
  }

  #map(): ArenaMemory {
    const { fd, id, size } = this;
    this.#memory ??= new ArenaMemory({
      fd,
      id,
      length: size,
      address: this.#address,
      what: `${this}`,
    });
    return this.#memory;
  }

  /**
   * Detaches the view and closes the descriptor; a second call does nothing. The last object of an arena unmaps its memory.
   *
   * @throws {Error} while an asynchronous operation of Bun uses the view: nothing is disposed of then
   */
  override [Symbol.dispose](): void {
    this.#memory?.[Symbol.dispose]();
    super[Symbol.dispose]();
  }
}
