import type { Pointer } from "bun:ffi";
import { errnoName, lastErrno } from "./errno.ts";
import { BpfError } from "./error.ts";
import { libc } from "./libc.ts";
import { allocateScratch } from "./scratch.ts";

/** What a descriptor is waited for (include/uapi/asm-generic/poll.h; the same on x86-64 and arm64). */
export type Interest = "readable" | "writable";

const POLLIN = 0x0001;
const POLLOUT = 0x0004;
const POLLERR = 0x0008;
const POLLHUP = 0x0010;
/** struct pollfd { int fd; short events; short revents; } */
const pollfdSize = 8;

/** The kernel's bit for what is waited for. */
export const pollEvents: Readonly<Record<Interest, number>> = {
  readable: POLLIN,
  writable: POLLOUT,
};

/** A descriptor that is waited for. */
export interface Polled {
  readonly fd: number;
  readonly interest: Interest;
}

/** Which of these are ready now, or in error: one poll(2) that does not wait. */
export function readyNow<P extends Polled>(polled: readonly P[]): P[] {
  const answers = ask(polled);
  return polled.filter((_, index) => answers[index] !== 0);
}

/** Whether a descriptor has nothing more to wait for, which makes every wait for it end at once. */
export function hasHungUp(fd: number): boolean {
  const [answer = 0] = ask([{ fd, interest: "readable" }]);
  return (answer & (POLLERR | POLLHUP)) !== 0;
}

/** What the kernel says of each now: one poll(2) that does not wait. */
function ask(polled: readonly Polled[]): number[] {
  using list = allocateScratch(Math.max(polled.length, 1) * pollfdSize);
  for (const [index, { fd, interest }] of polled.entries()) {
    list.view.setInt32(index * pollfdSize, fd, true);
    list.view.setInt16(index * pollfdSize + 4, pollEvents[interest], true);
  }
  while (libc.poll(list.address as Pointer, polled.length, 0) < 0) {
    const errno = lastErrno();
    if (errnoName(errno) === "EINTR") continue;
    throw new BpfError({ errno, syscall: "poll", doing: "look at the descriptors waited for" });
  }
  return polled.map((_, index) => list.view.getInt16(index * pollfdSize + 6, true));
}
