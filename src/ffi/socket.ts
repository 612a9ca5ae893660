import type { Pointer } from "bun:ffi";
import { Descriptor } from "./descriptor.ts";
import { lastErrno } from "./errno.ts";
import { BpfError } from "./error.ts";
import { libc } from "./libc.ts";
import { allocateScratch } from "./scratch.ts";

/** Numbers of the socket interface that are the same on x86-64 and arm64 (include/linux/socket.h). */
const AF_UNIX = 1;
const SOCK_STREAM = 1;
const SOCK_NONBLOCK = 0o4000;
const SOCK_CLOEXEC = 0o2000000;
const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;

/** Flags for a send that neither waits nor raises SIGPIPE. */
export const sendWithoutBlocking = MSG_DONTWAIT | MSG_NOSIGNAL;

/** Two connected stream sockets that do not block and are closed on exec. */
export function socketPair(what: string): [Descriptor, Descriptor] {
  using fds = allocateScratch(8);
  const type = SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC;
  if (libc.socketpair(AF_UNIX, type, 0, fds.address as Pointer) < 0) {
    throw new BpfError({ errno: lastErrno(), syscall: "socketpair", doing: `make the ${what}` });
  }
  const second = fds.view.getInt32(4, true);
  let first: Descriptor | undefined;
  try {
    first = new Descriptor(fds.view.getInt32(0, true), what);
    return [first, new Descriptor(second, what)];
  } catch (error) {
    // What the failed constructor was given, it has closed.
    if (first === undefined) libc.close(second);
    else first[Symbol.dispose]();
    throw error;
  }
}
