import type { Pointer } from "bun:ffi";
import { PERF_EVENT_MMAP_PAGE } from "../uapi/layout.ts";
import { MAP_SHARED, MREMAP_FIXED, MREMAP_MAYMOVE, PROT_READ, PROT_WRITE } from "../uapi/mman.ts";
import { errnoName, lastErrno } from "./errno.ts";
import { BpfError } from "./error.ts";
import { handles } from "./handles.ts";
import { libc } from "./libc.ts";
import { MappedMemory, pageSize } from "./memory.ts";
import { getUint64 } from "./scratch.ts";

/** No buffer of the engine is longer. */
const largestRun = 2 ** 32;

const lockedMemoryHint =
  "The pages of all these buffers are locked: without CAP_IPC_LOCK, kernel.perf_event_mlock_kb (for each CPU) and the limit of locked memory (ulimit -l) bound them. Give that capability, raise either, or take a smaller size";

/**
 * The pages that perf events share with user space, those of one event after those of the other.
 *
 * All are in one run of memory, so that they are detached and unmapped together or, while an asynchronous operation uses
 * one of them, not at all.
 */
export class PerfPages implements Disposable {
  /** One for each event, in their order. */
  readonly buffers: readonly PerfMemory[];
  readonly #memory: MappedMemory;

  /**
   * @param fds perf events that were not mapped yet
   * @param size bytes of the data of each: a power of two and a multiple of the page size
   * @throws {BpfError} `EPERM` where more memory would be locked than this process may lock
   */
  constructor(fds: readonly number[], size: number, what: string) {
    const length = pageSize() + size;
    if (fds.length * length > largestRun) {
      throw new RangeError(
        `size: ${fds.length} buffers of ${size} bytes, and a page more for each, are more than the 4 GiB that can be mapped`,
      );
    }
    this.#memory = MappedMemory.anonymous(fds.length * length, what);
    try {
      const { address, buffer } = this.#memory;
      this.buffers = fds.map((fd, index) => {
        const start = index * length;
        mapEvent(fd, address + start, length, what);
        return new PerfMemory(buffer, start, length, what);
      });
    } catch (error) {
      this.#memory[Symbol.dispose]();
      throw error;
    }
    handles?.add(this, {
      kind: "mapping",
      place: `mapping of ${this.#memory.length} bytes`,
      what: () => what,
    });
  }

  /**
   * Detaches every view and unmaps; a second call does nothing.
   *
   * @throws {Error} while an asynchronous operation of Bun uses a view of the data: all is as before then
   */
  [Symbol.dispose](): void {
    this.#memory[Symbol.dispose]();
    handles?.delete(this);
  }
}

/** Maps an event's pages at an address that belongs to a mapping of this library. */
function mapEvent(fd: number, target: number, length: number, what: string): void {
  // First at an address of the kernel's choice, where a refusal leaves all as it was. Refused at an address that is in use,
  // it leaves a hole there, in which another thread's memory can be by the time that all of this is unmapped. (To map it twice
  // instead of moving it would do as well, but Linux 6.18 then counts the pages as locked for as long as it runs.)
  const protection = PROT_READ | PROT_WRITE;
  const address = libc.mmap(null, length, protection, MAP_SHARED, fd, 0);
  if (typeof address !== "number" || address < 0) {
    const errno = lastErrno();
    const refused = errnoName(errno) === "EPERM";
    const doing = `map ${length} bytes of the ${what}`;
    const hint = refused ? lockedMemoryHint : undefined;
    throw new BpfError({ errno, syscall: "mmap", doing, hint });
  }
  const flags = MREMAP_MAYMOVE | MREMAP_FIXED;
  if (libc.mremap(address, length, length, flags, target) !== target) {
    const errno = lastErrno();
    libc.munmap(address as Pointer, length);
    throw new BpfError({ errno, syscall: "mremap", doing: `move the ${what} to their place` });
  }
}

/**
 * The pages of one perf event (struct perf_event_mmap_page, kernel/events/ring_buffer.c): a page with the positions, and the
 * data, in which a record can wrap around the end.
 *
 * User space may write to all of it, or else the kernel would take that as leave to overwrite what was not read.
 */
export class PerfMemory {
  /** The data: the record at position `p` begins at `p & (size - 1)`. */
  readonly data: DataView;
  readonly #head: BigUint64Array<ArrayBuffer>;
  readonly #tail: BigUint64Array<ArrayBuffer>;

  constructor(buffer: ArrayBuffer, start: number, length: number, what: string) {
    const page = new DataView(buffer, start, PERF_EVENT_MMAP_PAGE.sizeof);
    // Kernel 4.1 tells them, and programs write to perf events since 4.4 only.
    const offset = getUint64(page, PERF_EVENT_MMAP_PAGE.data_offset);
    const size = getUint64(page, PERF_EVENT_MMAP_PAGE.data_size);
    if (offset + size > length || size < 8 || Math.log2(size) % 1 !== 0) {
      throw new Error(
        `the ${what} cannot be used: the kernel says that ${size} bytes of data begin at ${offset}, in ${length} bytes that were mapped`,
      );
    }
    this.data = new DataView(buffer, start + offset, size);
    this.#head = new BigUint64Array(buffer, start + PERF_EVENT_MMAP_PAGE.data_head, 1);
    this.#tail = new BigUint64Array(buffer, start + PERF_EVENT_MMAP_PAGE.data_tail, 1);
  }

  /**
   * How far the kernel has written, in bytes since the event was mapped; what lies before that may be read after this.
   *
   * The kernel writes records and then, behind a barrier, this position. The load is sequentially consistent, and so no load
   * after it comes before it, neither by the processor (LDAR on arm64) nor by the engine's compilers. The headers of
   * records need no order of their own: all that is read is older than this position.
   */
  head(): number {
    return Number(Atomics.load(this.#head, 0));
  }

  /** How far records are released by now. */
  tail(): number {
    return getUint64(new DataView(this.#tail.buffer, this.#tail.byteOffset, 8), 0);
  }

  /**
   * Releases all records before `position`: the kernel may overwrite them from now on.
   *
   * The interface asks for a full barrier before this store (`smp_mb()`), because it keeps loads before a later store, which
   * barriers of loads or of stores alone do not. A store with release semantics does that too, as the kernel's own reader has
   * it (tools/include/linux/ring_buffer.h): this one is sequentially consistent (STLR on arm64, or an atomic instruction with
   * release semantics), so that all loads of the records are done before the kernel can see the position.
   */
  release(position: number): void {
    Atomics.store(this.#tail, 0, BigInt(position));
  }
}
