import type { Pointer } from "bun:ffi";
import { suggest } from "../check/names.ts";
import type { BpfCallContext } from "./bpf.ts";
import { Descriptor } from "./descriptor.ts";
import { BpfError, errnoName, lastErrno } from "./error.ts";
import { readFileSync } from "./files.ts";
import { libc } from "./libc.ts";
import { otherLibc } from "./libc_others.ts";
import { allocateScratch } from "./mapped_memory.ts";
import { explainPermission } from "./permission.ts";
import {
  AF_INET,
  AF_NETLINK,
  AF_UNIX,
  IFNAMSIZ,
  MSG_DONTWAIT,
  MSG_NOSIGNAL,
  NETLINK_CAP_ACK,
  NETLINK_EXT_ACK,
  SOCK_CLOEXEC,
  SOCK_DGRAM,
  SOCK_NONBLOCK,
  SOCK_RAW,
  SOCK_STREAM,
  SOL_NETLINK,
  SOL_SOCKET,
  SO_ATTACH_BPF,
  SO_ATTACH_REUSEPORT_EBPF,
  SO_DETACH_BPF,
  SO_DETACH_REUSEPORT_BPF,
  SO_REUSEPORT,
} from "../uapi/network.ts";

/**
 * Returns the index of a network interface in this process's network namespace.
 *
 * @param name the name of the interface, without a NUL
 * @throws {BpfError} ENODEV if no interface has the name.
 */
export function interfaceIndex(name: string): number {
  const text = Buffer.from(`${name}\0`);
  using memory = allocateScratch(text.length);
  memory.bytes.set(text);
  const index = otherLibc.if_nametoindex(memory.address as Pointer);
  if (index !== 0) return index;
  const errno = lastErrno();
  throw new BpfError({
    errno,
    syscall: "if_nametoindex",
    doing: `find the network interface ${JSON.stringify(name)}`,
    hint: errnoName(errno) === "ENODEV" ? () => unknownInterface(name) : undefined,
  });
}

/** Returns a hint that this thread's network namespace has no interface of a name, with a similar name or all names. */
function unknownInterface(name: string): string {
  // Two lines of headings, and a line for each interface.
  const lines = readFileSync("/proc/thread-self/net/dev", "utf8").trimEnd().split("\n").slice(2);
  const names = lines.map((line) => line.slice(0, line.lastIndexOf(":")).trim());
  return `This network namespace has no interface of that name: ${suggest(name, names)}`;
}

/**
 * Returns the name of the network interface with an index in this process's network namespace; `undefined` if none has the index.
 *
 * @throws {BpfError} if the name cannot be read.
 */
export function interfaceName(index: number): string | undefined {
  using memory = allocateScratch(IFNAMSIZ);
  if (otherLibc.if_indextoname(index, memory.address as Pointer) === null) {
    const errno = lastErrno();
    // C libraries differ in the error for an unknown index.
    if (["ENXIO", "ENODEV"].includes(errnoName(errno))) return undefined;
    const doing = `find the network interface ${index}`;
    throw new BpfError({ errno, syscall: "if_indextoname", doing });
  }
  return Buffer.from(memory.bytes.subarray(0, memory.bytes.indexOf(0))).toString("utf8");
}

/** Flags for a send that neither waits nor raises SIGPIPE. */
export const sendWithoutBlocking = MSG_DONTWAIT | MSG_NOSIGNAL;

/** Creates two connected stream sockets, which are non-blocking and closed on exec. */
export function createSocketPair(what: string): [Descriptor, Descriptor] {
  using fds = allocateScratch(8);
  const type = SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC;
  if (otherLibc.socketpair(AF_UNIX, type, 0, fds.address as Pointer) < 0) {
    throw new BpfError({ errno: lastErrno(), syscall: "socketpair", doing: `create the ${what}` });
  }
  const second = fds.view.getInt32(4, true);
  let first: Descriptor | undefined;
  try {
    first = new Descriptor(fds.view.getInt32(0, true), what);
    return [first, new Descriptor(second, what)];
  } catch (error) {
    // The constructor that threw has closed its descriptor, so only the other one is closed here.
    if (first === undefined) libc.close(second);
    else first[Symbol.dispose]();
    throw error;
  }
}

/** The address family and type of each kind of socket. */
const socketKinds = {
  datagram: [AF_INET, SOCK_DGRAM],
  netlink: [AF_NETLINK, SOCK_RAW],
} as const;

/** Creates an unbound socket, which is closed on exec. @throws {BpfError} if the call fails. */
export function openSocket(
  kind: keyof typeof socketKinds,
  protocol: number,
  what: string,
): Descriptor {
  const [family, type] = socketKinds[kind];
  const fd = otherLibc.socket(family, type | SOCK_CLOEXEC, protocol);
  if (fd >= 0) return new Descriptor(fd, what);
  throw new BpfError({ errno: lastErrno(), syscall: "socket", doing: `open the ${what}` });
}

/** Socket options whose value is a number or a descriptor, by their levels. */
const options = {
  SO_REUSEPORT: [SOL_SOCKET, SO_REUSEPORT],
  SO_ATTACH_BPF: [SOL_SOCKET, SO_ATTACH_BPF],
  SO_DETACH_BPF: [SOL_SOCKET, SO_DETACH_BPF],
  SO_ATTACH_REUSEPORT_EBPF: [SOL_SOCKET, SO_ATTACH_REUSEPORT_EBPF],
  SO_DETACH_REUSEPORT_BPF: [SOL_SOCKET, SO_DETACH_REUSEPORT_BPF],
  NETLINK_EXT_ACK: [SOL_NETLINK, NETLINK_EXT_ACK],
  NETLINK_CAP_ACK: [SOL_NETLINK, NETLINK_CAP_ACK],
} as const;

/** Sets an option of a socket. @throws {BpfError} with the texts of `context` if the call fails. */
export function setSocketOption(
  fd: number,
  option: keyof typeof options,
  value: number,
  { doing, needs = ["CAP_BPF"], hints }: BpfCallContext,
): void {
  using memory = allocateScratch(4);
  memory.view.setInt32(0, value, true);
  const [level, number] = options[option];
  if (otherLibc.setsockopt(fd, level, number, memory.address as Pointer, 4) >= 0) return;
  const errno = lastErrno();
  const code = errnoName(errno);
  throw new BpfError({
    errno,
    syscall: `setsockopt(${option})`,
    doing,
    hint() {
      const particular = hints?.[code];
      const hint = typeof particular === "function" ? particular() : particular;
      return hint ?? (code === "EPERM" ? explainPermission(needs) : undefined);
    },
  });
}
