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

/** Polls that can be in flight at once. */
const maxEvents = 1024;
const eventsPerCall = 64;
/** The longest time that a cancelled poll takes to complete, which the kernel does on another thread. */
const longestCancellationMilliseconds = 100;

/** A counter that can be waited for (eventfd(2)), non-blocking and closed on exec. */
export function eventDescriptor(name: string): Descriptor {
  const fd = otherLibc.eventfd(0, constants.O_NONBLOCK | EFD_CLOEXEC);
  if (fd < 0) {
    throw new BpfError({ errno: lastErrno(), syscall: "eventfd", doing: `make the ${name}` });
  }
  return new Descriptor(fd, name);
}

/** The part of Linux AIO that wakes an event loop: polls that count up an eventfd (kernel 4.19). */
export class Aio implements Disposable {
  readonly #context: number;
  readonly #events: Scratch;
  /** The control block of each poll in flight, by its `userData`: the kernel knows it by its address. */
  readonly #blocks = new Map<number, Scratch>();
  /** The `userData` of polls that were taken back, whose completion is to come. */
  readonly #cancelled = new Set<number>();
  /** The `userData` of polls that completed and were not given out by {@link reap} yet. */
  readonly #completed = new Set<number>();
  #disposed = false;

  /** @throws {BpfError} where AIO is not built into the kernel or no context is left */
  constructor() {
    using context = allocateScratch(8);
    const address = context.address as Pointer;
    if (otherSyscalls.io_setup(SYS_io_setup[architecture], maxEvents, address) < 0) {
      throw new BpfError({
        errno: lastErrno(),
        syscall: "io_setup",
        doing: "set up asynchronous I/O",
        hint: "The kernel was built without CONFIG_AIO, or fs.aio-max-nr is reached",
      });
    }
    this.#context = getUint64(context.view, 0);
    this.#events = allocateScratch(eventsPerCall * IO_EVENT.sizeof);
  }

  /** Once the descriptor is readable: completes with `userData` and counts up `eventfd`. Fires once. */
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

  /** Hands one control block to the kernel, and returns the errno, or 0. */
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
      // Polls that were taken back count until their completion is fetched.
      const before = this.#blocks.size;
      if (this.#cancelled.size > 0) this.#collect(1, longestCancellationMilliseconds);
      if (this.#blocks.size === before) return errno;
    }
  }

  /** Takes back a poll: until then it keeps what the descriptor belongs to alive. */
  cancel(userData: number): void {
    const block = this.#blocks.get(userData);
    if (block === undefined) {
      // It completed, and may wait to be given out.
      this.#completed.delete(userData);
      return;
    }
    const context = this.#context as Pointer;
    const events = this.#events.address as Pointer;
    // Its completion comes through the queue in any case (EINPROGRESS), or is there already (EINVAL).
    otherSyscalls.io_cancel(SYS_io_cancel[architecture], context, block.address as Pointer, events);
    this.#cancelled.add(userData);
    // Completions of earlier cancellations, too, count as polls in flight until they are fetched. What else completed is
    // kept for reap(): the eventfd tells of it.
    this.#collect(0, 0);
  }

  /** The `userData` of each poll that completed since the last time, once. */
  reap(): readonly number[] {
    if (this.#disposed) return [];
    this.#collect(0, 0);
    const completed = [...this.#completed];
    this.#completed.clear();
    return completed;
  }

  /** Empties the kernel's queue of completions, or waits until there are `atLeast` so many. */
  #collect(atLeast: number, milliseconds: number): void {
    using timeout = allocateScratch(16);
    // struct timespec { seconds, nanoseconds }
    setUint64(timeout.view, 8, milliseconds * 1_000_000);
    let wanted = atLeast;
    for (;;) {
      const count = otherSyscalls.io_getevents(
        SYS_io_getevents[architecture],
        this.#context as Pointer,
        wanted,
        eventsPerCall,
        this.#events.address as Pointer,
        timeout.address as Pointer,
      );
      if (count < 0) {
        const errno = lastErrno();
        if (errnoName(errno) === "EINTR") continue;
        throw new BpfError({ errno, syscall: "io_getevents", doing: "wait for a descriptor" });
      }
      wanted = 0;
      for (let index = 0; index < count; index++) {
        const userData = getUint64(this.#events.view, index * IO_EVENT.sizeof + IO_EVENT.data);
        this.#blocks.get(userData)?.[Symbol.dispose]();
        this.#blocks.delete(userData);
        if (!this.#cancelled.delete(userData)) this.#completed.add(userData);
      }
      if (count < eventsPerCall) return;
    }
  }

  /** Ends all polls. */
  [Symbol.dispose](): void {
    if (this.#disposed) return;
    this.#disposed = true;
    otherSyscalls.io_destroy(SYS_io_destroy[architecture], this.#context as Pointer);
    for (const block of this.#blocks.values()) block[Symbol.dispose]();
    this.#events[Symbol.dispose]();
  }
}
