import { type Pointer, toArrayBuffer } from "bun:ffi";
import { MAP_FIXED_NOREPLACE, MAP_SHARED, PROT_READ, PROT_WRITE } from "../uapi/system.ts";
import { BpfError, DisposedError, errnoName, lastErrno } from "./error.ts";
import { tracing } from "./handles.ts";
import { libc } from "./libc.ts";

/** The arena that {@link ArenaMemory} maps. */
export interface ArenaMapping {
  readonly fd: number;
  /** The kernel's id of the map. */
  readonly id: number;
  /** Bytes: all of the arena, as the kernel maps no part of one. */
  readonly length: number;
  /** Where it has to be, or 0 for anywhere. */
  readonly address: number;
  /** Names it in errors. */
  readonly what: string;
}

/** An arena's memory in this process. */
interface SharedMapping {
  readonly address: number;
  users: number;
}

/**
 * The arenas that this thread has mapped, by id. The kernel wants an arena at one address only, which a process can map once:
 * all objects of an arena share that mapping.
 */
const mapped = new Map<number, SharedMapping>();

/** Where this thread has an arena's memory; `undefined` when it has not mapped it. */
export function mappedArenaAddress(id: number): number | undefined {
  return mapped.get(id)?.address;
}

/**
 * The memory of an arena, mapped shared and writable.
 *
 * Disposal detaches every view of this object, so that none can reach the address any more; the last one of an arena unmaps
 * its memory.
 */
export class ArenaMemory implements Disposable {
  readonly address: number;
  readonly #id: number;
  readonly #what: string;
  readonly #buffer: ArrayBuffer;

  constructor(mapping: ArenaMapping) {
    const { id, length, what } = mapping;
    const shared = mapped.getOrInsertComputed(id, () => map(mapping));
    shared.users++;
    this.address = shared.address;
    this.#id = id;
    this.#what = what;
    // A buffer of its own, so that the views of one object end with it while another one's go on.
    this.#buffer = toArrayBuffer(shared.address as Pointer, 0, length);
    tracing.registry?.add(this, {
      kind: "mapping",
      place: `mapping of ${length} bytes`,
      what: () => what,
    });
  }

  /** All of the memory. @throws {DisposedError} after disposal */
  get buffer(): ArrayBuffer {
    if (this.#buffer.detached) throw new DisposedError(this.#what);
    return this.#buffer;
  }

  /**
   * Detaches all views; a second call does nothing.
   *
   * @throws {Error} while an asynchronous operation of Bun reads or writes a view of it: the memory then stays as it is, and
   *   disposing can be tried again
   */
  [Symbol.dispose](): void {
    if (this.#buffer.detached) return;
    const { byteLength } = this.#buffer;
    this.#buffer.transfer(0);
    // The engine copies instead of detaching while a native operation holds the buffer, and says nothing.
    if (!this.#buffer.detached) {
      throw new Error(
        `the ${this.#what} cannot be disposed of yet: an asynchronous operation uses its memory; await that first`,
      );
    }
    tracing.registry?.delete(this);
    const shared = mapped.get(this.#id);
    if (shared === undefined || --shared.users > 0) return;
    mapped.delete(this.#id);
    libc.munmap(shared.address as Pointer, byteLength);
  }
}

function map({ fd, length, address, what }: ArenaMapping): SharedMapping {
  const fixed = address === 0 ? 0 : MAP_FIXED_NOREPLACE;
  const at = libc.mmap(
    address === 0 ? null : (address as Pointer),
    length,
    PROT_READ | PROT_WRITE,
    MAP_SHARED | fixed,
    fd,
    0,
  );
  if (typeof at === "number" && at > 0) return { address: at, users: 0 };
  const errno = lastErrno();
  throw new BpfError({
    errno,
    syscall: "mmap",
    doing: `map the ${what}${address === 0 ? "" : ` at 0x${address.toString(16)}`}`,
    hint: explainRefused(errnoName(errno), address),
  });
}

function explainRefused(code: string, address: number): string | undefined {
  switch (code) {
    case "EINVAL":
    case "EBUSY":
      return address === 0
        ? "The arena was mapped before, and has to be at the same address in every process: give that as the option address, or create the arena with one"
        : "The arena was mapped before at another address, and has to be there in every process: give that one as the option address";
    case "EEXIST":
      return "This process has something else there already, or another of its threads has the arena, which a process maps once: choose another address, or use the arena in that thread";
    case "ENOMEM":
      return "The address is outside of what a process has, or its limit on address space is reached (ulimit -v)";
    case "EPERM":
      return "The arena is frozen, which forbids to map it writable; or the address is below the sysctl vm.mmap_min_addr";
    default:
      return undefined;
  }
}
