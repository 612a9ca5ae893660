import type { Pointer } from "bun:ffi";
import {
  SO_ATTACH_BPF,
  SO_ATTACH_REUSEPORT_EBPF,
  SO_REUSEPORT,
  SOL_SOCKET,
} from "../uapi/socket.ts";
import { explainPermission } from "./permission.ts";
import { Descriptor } from "./descriptor.ts";
import { errnoName, lastErrno } from "./errno.ts";
import { BpfError } from "./error.ts";
import { libc } from "./libc.ts";
import { allocateScratch } from "./scratch.ts";

/** Numbers of the socket interface that are the same on x86-64 and arm64 (include/linux/socket.h). */
const AF_UNIX = 1;
const AF_INET = 2;
const AF_NETLINK = 16;
const SOCK_STREAM = 1;
const SOCK_DGRAM = 2;
const SOCK_RAW = 3;
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

/** Sorts of sockets, by what socket(2) takes. */
const sorts = {
  datagram: [AF_INET, SOCK_DGRAM],
  netlink: [AF_NETLINK, SOCK_RAW],
} as const;

/** A socket that is not bound to anything yet and is closed on exec. @throws {BpfError} */
export function openSocket(sort: keyof typeof sorts, protocol: number, what: string): Descriptor {
  const [family, type] = sorts[sort];
  const fd = libc.socket(family, type | SOCK_CLOEXEC, protocol);
  if (fd >= 0) return new Descriptor(fd, what);
  throw new BpfError({ errno: lastErrno(), syscall: "socket", doing: `open the ${what}` });
}

/** Options of sockets whose value is a number, or a descriptor. */
const options = { SO_REUSEPORT, SO_ATTACH_BPF, SO_ATTACH_REUSEPORT_EBPF };

/** Sets an option of a socket. @throws {BpfError} */
export function setSocketOption(
  fd: number,
  option: keyof typeof options,
  value: number,
  what: string,
): void {
  using memory = allocateScratch(4);
  memory.view.setInt32(0, value, true);
  const address = memory.address as Pointer;
  if (libc.setsockopt(fd, SOL_SOCKET, options[option], address, 4) >= 0) return;
  const errno = lastErrno();
  throw new BpfError({
    errno,
    syscall: `setsockopt(${option})`,
    doing: `set up the ${what}`,
    hint: errnoName(errno) === "EPERM" ? explainPermission(["CAP_BPF"]) : undefined,
  });
}
