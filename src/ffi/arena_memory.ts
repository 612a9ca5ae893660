import { type Pointer, toArrayBuffer } from "bun:ffi";
import { MAP_FIXED_NOREPLACE, MAP_SHARED, PROT_READ, PROT_WRITE } from "../uapi/system.ts";
import { BpfError, DisposedError, errnoName, lastErrno } from "./error.ts";
import { tracing } from "./handles.ts";
import { libc } from "./libc.ts";

/** Options of {@link ArenaMemory}. */
export interface ArenaMapping {
  /** The descriptor of the map. */
  readonly fd: number;
  /** The kernel's id of the map. */
  readonly id: number;
  /** The size of the whole arena, in bytes: the kernel maps only whole arenas. */
  readonly length: number;
  /** The address at which to map the arena, or 0 for any address. */
  readonly address: number;
  /** The name of the arena in errors. */
  readonly what: string;
}

/** The mapping of an arena, which several objects share. */
interface SharedMapping {
  readonly address: number;
  users: number;
}

/**
 * The mappings of this thread, by the id of the arena. The kernel maps an arena at one address only, so a process can map it only
 * once: all objects of an arena share the mapping.
 */
const mapped = new Map<number, SharedMapping>();

/** Returns the address at which this thread has mapped an arena; `undefined` if it has not. */
export function mappedArenaAddress(id: number): number | undefined {
  return mapped.get(id)?.address;
}

/**
 * The memory of an arena, mapped shared and writable.
 *
 * Disposal detaches every view of this object, so that no view can access the address afterwards. Disposal of the last object of
 * an arena unmaps the memory.
 */
export class ArenaMemory implements Disposable {
  /** The address of the mapping. */
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
    // Each object has its own buffer, so that its views can be detached while those of other objects stay valid.
    this.#buffer = toArrayBuffer(shared.address as Pointer, 0, length);
    tracing.registry?.add(this, {
      kind: "mapping",
      place: `mapping of ${length} bytes`,
      what: () => what,
    });
  }

  /** The memory of the arena. @throws {DisposedError} after disposal. */
  get buffer(): ArrayBuffer {
    if (this.#buffer.detached) throw new DisposedError(this.#what);
    return this.#buffer;
  }

  /**
   * Detaches all views; a second call does nothing.
   *
   * @throws {Error} while an asynchronous operation of Bun uses a view. Nothing has changed then, and disposal can be repeated
   *   later.
   */
  [Symbol.dispose](): void {
    if (this.#buffer.detached) return;
    const { byteLength } = this.#buffer;
    this.#buffer.transfer(0);
    // While a native operation holds the buffer, the JavaScript engine silently copies instead of detaching.
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
        ? "The arena was mapped before, and every process must map it at the same address: pass that address as the option `address`, or create the arena with this option"
        : "The arena was mapped at another address before, and every process must map it at the same address: pass that address as the option `address`";
    case "EEXIST":
      return "Other memory is mapped at this address, or another thread of this process has mapped the arena, which a process can map only once: choose another address, or use the arena in that thread";
    case "ENOMEM":
      return "The address is outside of the address space of a process, or the limit on its address space is reached (ulimit -v)";
    case "EPERM":
      return "The arena is frozen and cannot be mapped writable, or the address is below the sysctl vm.mmap_min_addr";
    default:
      return undefined;
  }
}
