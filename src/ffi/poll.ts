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

/** struct pollfd { int fd; short events; short revents; } */
const pollfdSize = 8;

/** Returns the bits of each descriptor that is readable or in error now, else 0: one poll(2) that does not wait. */
export function pollNow(fds: readonly number[]): number[] {
  using list = allocateScratch(Math.max(fds.length, 1) * pollfdSize);
  for (const [index, fd] of fds.entries()) {
    list.view.setInt32(index * pollfdSize, fd, true);
    list.view.setInt16(index * pollfdSize + 4, POLLIN, true);
  }
  while (otherLibc.poll(list.address as Pointer, fds.length, 0) < 0) {
    const errno = lastErrno();
    if (errnoName(errno) === "EINTR") continue;
    throw new BpfError({ errno, syscall: "poll", doing: "look at the descriptors waited for" });
  }
  return fds.map((_, index) => list.view.getInt16(index * pollfdSize + 6, true));
}

/** Returns whether a descriptor has nothing more to wait for, which makes every wait for it end at once. */
export function hasHungUp(fd: number): boolean {
  const [bits = 0] = pollNow([fd]);
  return (bits & (POLLERR | POLLHUP)) !== 0;
}

/** struct epoll_event { u32 events; u64 data; }, which is packed on x86-64 alone: 12 bytes there, 16 elsewhere. */
const longestEvent = 16;

/**
 * An epoll instance that is readable after each wake-up of a descriptor that is writable: an edge instead of a level.
 *
 * For descriptors that are nearly always writable: to wait for one of those by itself is to spin.
 */
export class WritableEdge implements Disposable {
  readonly #descriptor: Descriptor;

  constructor(fd: number, what: string) {
    const created = otherLibc.epoll_create1(EPOLL_CLOEXEC);
    if (created < 0) {
      throw new BpfError({ errno: lastErrno(), syscall: "epoll_create1", doing: `watch ${what}` });
    }
    this.#descriptor = new Descriptor(created, `epoll instance of ${what}`);
    using event = allocateScratch(longestEvent);
    event.view.setUint32(0, POLLOUT | EPOLLET, true);
    if (otherLibc.epoll_ctl(this.fd, EPOLL_CTL_ADD, fd, event.address as Pointer) < 0) {
      const errno = lastErrno();
      this.#descriptor[Symbol.dispose]();
      throw new BpfError({ errno, syscall: "epoll_ctl(EPOLL_CTL_ADD)", doing: `watch ${what}` });
    }
  }

  /** Readable from the next wake-up on, until {@link forget}. */
  get fd(): number {
    return this.#descriptor.fd;
  }

  /** Takes back the wake-ups that there were. */
  forget(): void {
    using event = allocateScratch(longestEvent);
    if (otherLibc.epoll_wait(this.fd, event.address as Pointer, 1, 0) >= 0) return;
    throw new BpfError({ errno: lastErrno(), syscall: "epoll_wait", doing: "look for wake-ups" });
  }

  [Symbol.dispose](): void {
    this.#descriptor[Symbol.dispose]();
  }
}
