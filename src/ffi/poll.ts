import type { Pointer } from "bun:ffi";
import { Descriptor } from "./descriptor.ts";
import { BpfError, errnoName, lastErrno } from "./error.ts";
import { otherLibc } from "./libc_others.ts";
import { allocateScratch } from "./mapped_memory.ts";
import {
  EPOLL_CLOEXEC,
  EPOLL_CTL_ADD,
  EPOLLET,
  POLLERR,
  POLLHUP,
  POLLIN,
  POLLOUT,
} from "../uapi/system.ts";

/** Size of `struct pollfd { int fd; short events; short revents; }`. */
const pollfdSize = 8;

/** Polls descriptors for reading with one poll(2) that does not wait. Returns the event bits of each; 0 if it is not ready. */
export function pollNow(fds: readonly number[]): number[] {
  using list = allocateScratch(Math.max(fds.length, 1) * pollfdSize);
  for (const [index, fd] of fds.entries()) {
    list.view.setInt32(index * pollfdSize, fd, true);
    list.view.setInt16(index * pollfdSize + 4, POLLIN, true);
  }
  while (otherLibc.poll(list.address as Pointer, fds.length, 0) < 0) {
    const errno = lastErrno();
    if (errnoName(errno) === "EINTR") continue;
    throw new BpfError({ errno, syscall: "poll", doing: "poll the descriptors" });
  }
  return fds.map((_, index) => list.view.getInt16(index * pollfdSize + 6, true));
}

/** Returns true if a descriptor is in the state POLLERR or POLLHUP, in which every poll of it returns at once. */
export function hasHungUp(fd: number): boolean {
  const [bits = 0] = pollNow([fd]);
  return (bits & (POLLERR | POLLHUP)) !== 0;
}

/** Size of `struct epoll_event { u32 events; u64 data; }`, which is packed on x86-64: 12 bytes there, 16 on other machines. */
const maxEventSize = 16;

/**
 * An edge-triggered epoll instance for a writable descriptor. The instance becomes readable at each wake-up of the
 * descriptor.
 *
 * Use the class for descriptors that are nearly always writable, for which a level-triggered poll would return at once each
 * time.
 */
export class WritableEdge implements Disposable {
  readonly #descriptor: Descriptor;

  constructor(fd: number, what: string) {
    const created = otherLibc.epoll_create1(EPOLL_CLOEXEC);
    if (created < 0) {
      throw new BpfError({ errno: lastErrno(), syscall: "epoll_create1", doing: `watch ${what}` });
    }
    this.#descriptor = new Descriptor(created, `epoll instance of ${what}`);
    using event = allocateScratch(maxEventSize);
    event.view.setUint32(0, POLLOUT | EPOLLET, true);
    if (otherLibc.epoll_ctl(this.fd, EPOLL_CTL_ADD, fd, event.address as Pointer) < 0) {
      const errno = lastErrno();
      this.#descriptor[Symbol.dispose]();
      throw new BpfError({ errno, syscall: "epoll_ctl(EPOLL_CTL_ADD)", doing: `watch ${what}` });
    }
  }

  /** The descriptor, which is readable from the next wake-up until {@link forget}. */
  get fd(): number {
    return this.#descriptor.fd;
  }

  /** Consumes all wake-ups so far: {@link fd} is not readable until the next one. */
  forget(): void {
    using event = allocateScratch(maxEventSize);
    if (otherLibc.epoll_wait(this.fd, event.address as Pointer, 1, 0) >= 0) return;
    throw new BpfError({ errno: lastErrno(), syscall: "epoll_wait", doing: "check for wake-ups" });
  }

  [Symbol.dispose](): void {
    this.#descriptor[Symbol.dispose]();
  }
}
