import type { Pointer } from "bun:ffi";
import { Descriptor } from "./descriptor.ts";
import { lastErrno } from "./errno.ts";
import { BpfError } from "./error.ts";
import { libc } from "./libc.ts";
import { pollEvents } from "./poll.ts";
import { allocateScratch } from "./scratch.ts";

/** EPOLL_CLOEXEC: the value of O_CLOEXEC, which is the same on x86-64 and arm64. */
const EPOLL_CLOEXEC = 0o2000000;
const EPOLL_CTL_ADD = 1;
const EPOLLET = 0x8000_0000;
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
    const created = libc.epoll_create1(EPOLL_CLOEXEC);
    if (created < 0) {
      throw new BpfError({ errno: lastErrno(), syscall: "epoll_create1", doing: `watch ${what}` });
    }
    this.#descriptor = new Descriptor(created, `epoll instance of ${what}`);
    using event = allocateScratch(longestEvent);
    event.view.setUint32(0, pollEvents.writable | EPOLLET, true);
    if (libc.epoll_ctl(this.fd, EPOLL_CTL_ADD, fd, event.address as Pointer) < 0) {
      const errno = lastErrno();
      this.#descriptor[Symbol.dispose]();
      throw new BpfError({ errno, syscall: "epoll_ctl(EPOLL_CTL_ADD)", doing: `watch ${what}` });
    }
  }

  /** Readable from the next wake-up on, until {@link forget}. */
  get fd(): number {
    return this.#descriptor.fd;
  }

  /** Takes back what wake-ups there were. */
  forget(): void {
    using event = allocateScratch(longestEvent);
    if (libc.epoll_wait(this.fd, event.address as Pointer, 1, 0) >= 0) return;
    throw new BpfError({ errno: lastErrno(), syscall: "epoll_wait", doing: "look for wake-ups" });
  }

  [Symbol.dispose](): void {
    this.#descriptor[Symbol.dispose]();
  }
}
