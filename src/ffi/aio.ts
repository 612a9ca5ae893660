import { constants } from "./files.ts";
import type { Pointer } from "bun:ffi";
import {
  EFD_CLOEXEC,
  IOCB_CMD_POLL,
  IOCB_FLAG_RESFD,
  POLLIN,
  SYS_io_cancel,
  SYS_io_destroy,
  SYS_io_getevents,
  SYS_io_setup,
  SYS_io_submit,
} from "../uapi/system.ts";
import { IO_EVENT, IOCB } from "../uapi/layout.ts";
import { Descriptor } from "./descriptor.ts";
import { BpfError, errnoName, lastErrno } from "./error.ts";
import { otherLibc, otherSyscalls } from "./libc_others.ts";
import { architecture } from "./platform.ts";
import { allocateScratch, getUint64, type Scratch, setUint64 } from "./mapped_memory.ts";

/** The number of polls that can be pending at once. */
const maxEvents = 1024;
const eventsPerCall = 64;
/** The longest wait for cancelled polls to complete, in milliseconds. The kernel completes them on another thread. */
const maxCancellationMs = 100;

/** Creates an eventfd(2): a counter that is readable when it is not 0. It is non-blocking and closed on exec. */
export function createEventfd(name: string): Descriptor {
  const fd = otherLibc.eventfd(0, constants.O_NONBLOCK | EFD_CLOEXEC);
  if (fd < 0) {
    throw new BpfError({ errno: lastErrno(), syscall: "eventfd", doing: `create the ${name}` });
  }
  return new Descriptor(fd, name);
}

/** The part of Linux AIO that can wake an event loop: polls that increment an eventfd (kernel 4.19). */
export class Aio implements Disposable {
  readonly #context: number;
  readonly #events: Scratch;
  /** The control blocks of pending polls, by `userData`. The kernel identifies a poll by the address of its control block. */
  readonly #blocks = new Map<number, Scratch>();
  /** The `userData` of cancelled polls whose completion has not been fetched yet. */
  readonly #cancelled = new Set<number>();
  /** The `userData` of completed polls that {@link reap} has not returned yet. */
  readonly #completed = new Set<number>();
  #disposed = false;

  /** @throws {BpfError} if the kernel was built without AIO, or the limit fs.aio-max-nr is reached. */
  constructor() {
    using context = allocateScratch(8);
    const address = context.address as Pointer;
    if (otherSyscalls.io_setup(SYS_io_setup[architecture], maxEvents, address) < 0) {
      throw new BpfError({
        errno: lastErrno(),
        syscall: "io_setup",
        doing: "set up asynchronous I/O",
        hint: "The kernel was built without CONFIG_AIO, or the limit fs.aio-max-nr is reached: raise this sysctl",
      });
    }
    this.#context = getUint64(context.view, 0);
    this.#events = allocateScratch(eventsPerCall * IO_EVENT.sizeof);
  }

  /**
   * Starts a poll that completes once, when the descriptor is readable: {@link reap} returns `userData`, and `eventfd` is
   * incremented.
   */
  poll(fd: number, userData: number, eventfd: number): void {
    const block = allocateScratch(IOCB.sizeof);
    const { view } = block;
    setUint64(view, IOCB.aio_data, userData);
    view.setUint16(IOCB.aio_lio_opcode, IOCB_CMD_POLL, true);
    view.setUint32(IOCB.aio_fildes, fd, true);
    setUint64(view, IOCB.aio_buf, POLLIN);
    view.setUint32(IOCB.aio_flags, IOCB_FLAG_RESFD, true);
    view.setUint32(IOCB.aio_resfd, eventfd, true);
    using list = allocateScratch(8);
    setUint64(list.view, 0, block.address);
    const errno = this.#submit(list);
    if (errno !== 0) {
      block[Symbol.dispose]();
      throw new BpfError({
        errno,
        syscall: "io_submit",
        doing: "wait for a descriptor",
        hint:
          errnoName(errno) === "EAGAIN"
            ? `At most ${maxEvents} descriptors can be waited for at once`
            : undefined,
      });
    }
    this.#blocks.set(userData, block);
  }

  /** Submits one control block. Returns the errno, or 0. */
  #submit(list: Scratch): number {
    for (;;) {
      const context = this.#context as Pointer;
      if (
        otherSyscalls.io_submit(
          SYS_io_submit[architecture],
          context,
          1,
          list.address as Pointer,
        ) === 1
      )
        return 0;
      const errno = lastErrno();
      if (errnoName(errno) !== "EAGAIN") return errno;
      // Cancelled polls count as pending until their completion is fetched.
      const before = this.#blocks.size;
      if (this.#cancelled.size > 0) this.#collect(1, maxCancellationMs);
      if (this.#blocks.size === before) return errno;
    }
  }

  /** Cancels a poll, so that {@link reap} does not return it. A pending poll keeps the descriptor's file open. */
  cancel(userData: number): void {
    const block = this.#blocks.get(userData);
    if (block === undefined) {
      // The poll has completed, but reap() may not have returned it yet.
      this.#completed.delete(userData);
      return;
    }
    const context = this.#context as Pointer;
    const events = this.#events.address as Pointer;
    // The result is not needed: the completion will arrive in the queue (EINPROGRESS), or is there already (EINVAL).
    otherSyscalls.io_cancel(SYS_io_cancel[architecture], context, block.address as Pointer, events);
    this.#cancelled.add(userData);
    // Completions of earlier cancellations count as pending polls until they are fetched. Other completions are kept for
    // reap(), which is called when the eventfd is readable.
    this.#collect(0, 0);
  }

  /** Returns the `userData` of each poll that has completed since the last call. */
  reap(): readonly number[] {
    if (this.#disposed) return [];
    this.#collect(0, 0);
    const completed = [...this.#completed];
    this.#completed.clear();
    return completed;
  }

  /** Empties the kernel's queue of completions. Waits for at least `atLeast` completions, up to `milliseconds`. */
  #collect(atLeast: number, milliseconds: number): void {
    using timeout = allocateScratch(16);
    // struct timespec { seconds, nanoseconds }
    setUint64(timeout.view, 8, milliseconds * 1_000_000);
    let minimum = atLeast;
    for (;;) {
      const count = otherSyscalls.io_getevents(
        SYS_io_getevents[architecture],
        this.#context as Pointer,
        minimum,
        eventsPerCall,
        this.#events.address as Pointer,
        timeout.address as Pointer,
      );
      if (count < 0) {
        const errno = lastErrno();
        if (errnoName(errno) === "EINTR") continue;
        throw new BpfError({ errno, syscall: "io_getevents", doing: "wait for a descriptor" });
      }
      minimum = 0;
      for (let index = 0; index < count; index++) {
        const userData = getUint64(this.#events.view, index * IO_EVENT.sizeof + IO_EVENT.data);
        this.#blocks.get(userData)?.[Symbol.dispose]();
        this.#blocks.delete(userData);
        if (!this.#cancelled.delete(userData)) this.#completed.add(userData);
      }
      if (count < eventsPerCall) return;
    }
  }

  /** Cancels all polls and frees the context. A second call does nothing. */
  [Symbol.dispose](): void {
    if (this.#disposed) return;
    this.#disposed = true;
    otherSyscalls.io_destroy(SYS_io_destroy[architecture], this.#context as Pointer);
    for (const block of this.#blocks.values()) block[Symbol.dispose]();
    this.#events[Symbol.dispose]();
  }
}
