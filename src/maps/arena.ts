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

/** Options that set the address of an arena. */
export interface ArenaAddressOptions {
  /**
   * Address of the arena's memory, the same in every process: a multiple of the page size. The arena must not cross a
   * multiple of 4 GiB. An address far from those that the system chooses is likely to be free: `2 ** 44`, or `2 ** 32` on
   * arm64.
   *
   * @default the `map_extra` of the arena, or else an address that the system chooses
   */
  readonly address?: number | bigint;
}

/** Options of {@link Arena}. */
export interface ArenaOptions extends Omit<CommonMapOptions, "numaNode">, ArenaAddressOptions {
  /** Size in pages (4096 bytes on x86-64): at most 4 GiB in all. A page takes memory once it is used. */
  readonly pages: number;
}

/** Range of the low 32 bits of a pointer: programs use only these bits of an arena pointer. */
const windowBytes = 2 ** 32;

/**
 * Returns the requested address, or 0.
 *
 * @throws {TypeError | RangeError} if an arena cannot have the requested address.
 */
function requestedAddress({ address }: ArenaAddressOptions): number {
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
 * Memory that programs and processes share, in which pointers mean the same to all of them.
 *
 * An arena has up to 4 GiB of addresses. A page takes memory once a program has allocated it with `bpf_arena_alloc_pages`,
 * or user space has touched it. With the flag `"segv_on_fault"`, touching a page does not allocate it. Programs read zeros
 * from a page that is not allocated, and their stores to it are lost.
 *
 * The constructor maps the memory, because the kernel loads programs that use an arena only after that. The kernel requires
 * the same address in every process that maps the arena: the address of its first mapping. The option `address` sets it for
 * an arena that other processes are to open.
 *
 * An arena that is opened is mapped on the first use of {@link view} or {@link address}. `open`, `fromId` and `fromFd` take
 * the option `address` for an arena that was created without it and is already mapped elsewhere.
 *
 * A process maps an arena once. Objects of one arena in one thread share the mapping; a second thread of the process cannot
 * map it.
 *
 * @throws {BpfError} EPERM if this process lacks CAP_BPF.
 * @throws {BpfError} EINVAL before Linux 6.9.
 * @throws {BpfError} EOPNOTSUPP if the JIT compiler of this machine does not support arenas.
 * @throws {BpfError} EEXIST if the address is in use in this process.
 * @throws {TypeError | RangeError} if an option is unknown, has the wrong type or is out of range.
 *
 * @example
 * ```ts
 * import { Arena } from "bun-bpf";
 * using arena = new Arena({ pages: 16, name: "shared" });
 * arena.view.setUint32(8, 42, true);
 * console.log(arena.size === arena.view.byteLength); // true
 * console.log(`${arena.size} bytes at 0x${arena.address.toString(16)}`);
 * ```
 *
 * Requires Linux 6.9 on x86-64, 6.10 on arm64.
 */
export class Arena extends BpfMap<"arena"> {
  /** Definition of this class: its map type and options. */
  static readonly kind = /*@__PURE__*/ new MapKind<"Arena", ArenaAddressOptions, ArenaOptions>({
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
          `address: expected an arena that does not cross a multiple of 4 GiB, got ${pages} pages at 0x${address.toString(16)}`,
        );
      }
      if ((options as CommonMapOptions).numaNode !== undefined) {
        throw new TypeError(
          "numaNode: Arena does not support it, because the kernel allocates pages when they are used",
        );
      }
      return { maxEntries: pages, mapExtra: address };
    },
  });
  /** Address that the memory must be mapped at, or 0 for any. */
  readonly #address: number;
  #memory: ArenaMemory | undefined;
  #view: DataView | undefined;

  /** Creates and maps the arena, or opens the arena that is pinned at the path of the option `pin`. */
  constructor(options: ArenaOptions) {
    const isNew = !(options instanceof MapHandle);
    const handle = Arena.kind.handle(options);
    super(handle);
    try {
      this.#address = this.#resolveAddress(requestedAddress(handle.types));
      // An arena that is opened is mapped on the first use of `view` or `address`.
      if (isNew) this.#map();
    } catch (error) {
      handle.abandon();
      throw error;
    }
  }

  /** Size in pages: the same as `maxEntries`. */
  get pages(): number {
    return this.maxEntries;
  }

  /** Size in bytes. */
  get size(): number {
    return this.pages * pageSize();
  }

  /**
   * Address of the first byte in this process. Pointers in the arena's memory are such addresses.
   *
   * @throws {BpfError} if the memory cannot be mapped: see {@link view}.
   */
  get address(): number {
    return this.#map().address;
  }

  /**
   * The arena's memory, without a copy. Programs can change the memory at any time, and see what this process stores in it.
   *
   * Touching a page allocates it, zeroed. The process is killed if the kernel has no memory for the page (for example
   * because of the limit of the control group), or if the arena has the flag `"segv_on_fault"` and no program has allocated
   * the page.
   *
   * In a loop that waits for a change, read with `Atomics.load` of an integer array over `view.buffer`: the engine may do a
   * plain read only once for the whole loop. Disposal of this object detaches the view.
   *
   * @throws {BpfError} EINVAL for an opened arena that was mapped before at an address that is not known here: pass the
   *   option `address`.
   * @throws {BpfError} EEXIST if the address is in use in this process, or if another thread of this process has mapped the
   *   arena.
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

  /**
   * Opens the same arena as a second object with its own descriptor and lifetime. Objects of one thread share the mapping.
   *
   * @throws {DisposedError} after disposal.
   */
  override dup(): Duplicate<this> {
    // Passes the address on, because the object that mapped the arena may be disposed of before the new object maps it.
    const handle = this.handle.duplicate({ address: this.#address });
    return new Arena(handle as never) as Duplicate<this>;
  }

  /**
   * Returns the only address that the kernel accepts, as far as it is known: the `map_extra` of the arena, or the address
   * of a mapping in this thread.
   *
   * @throws {TypeError} if another address was requested.
   */
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
   * Detaches the view and closes the descriptor. Further calls do nothing. Disposal of the last object of an arena unmaps
   * its memory.
   *
   * @throws {Error} while an asynchronous operation of Bun uses the view. Nothing is disposed of then.
   */
  override [Symbol.dispose](): void {
    this.#memory?.[Symbol.dispose]();
    super[Symbol.dispose]();
  }
}
