import type { Pointer } from "bun:ffi";
import type { BpfCallContext } from "./bpf.ts";
import { Descriptor } from "./descriptor.ts";
import { BpfError, errnoName, lastErrno } from "./error.ts";
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
  NETLINK_ROUTE,
  NLA_F_NESTED,
  NLMSG_ERROR,
  NLM_F_ACK,
  NLM_F_REQUEST,
  SOCK_CLOEXEC,
  SOCK_DGRAM,
  SOCK_NONBLOCK,
  SOCK_RAW,
  SOCK_STREAM,
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
    hint:
      errnoName(errno) === "ENODEV"
        ? "This network namespace has no interface of that name: `ip link` lists its interfaces"
        : undefined,
  });
}

/**
 * Returns the name of the network interface with an index in this process's network namespace; `undefined` if none has the index.
 */
export function interfaceName(index: number): string | undefined {
  using memory = allocateScratch(IFNAMSIZ);
  if (otherLibc.if_indextoname(index, memory.address as Pointer) === null) return undefined;
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

/** Socket options whose value is a number or a descriptor. */
const options = {
  SO_REUSEPORT,
  SO_ATTACH_BPF,
  SO_DETACH_BPF,
  SO_ATTACH_REUSEPORT_EBPF,
  SO_DETACH_REUSEPORT_BPF,
};

/** Sets an option of a socket. @throws {BpfError} with the texts of `context` if the call fails. */
export function setSocketOption(
  fd: number,
  option: keyof typeof options,
  value: number,
  { doing, needs = ["CAP_BPF"], hints }: BpfCallContext,
): void {
  using memory = allocateScratch(4);
  memory.view.setInt32(0, value, true);
  const address = memory.address as Pointer;
  if (otherLibc.setsockopt(fd, SOL_SOCKET, options[option], address, 4) >= 0) return;
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

/** `struct nlmsghdr`: length, type, flags, sequence number, port. */
const headerSize = 16;
/** `struct nlattr`: length and type, before the value. */
const attributeHeaderSize = 4;
/** Size of the buffer for the kernel's reply, in bytes: the errno and, after a failure, the message that failed. */
const replySize = 8192;

/** An attribute of a message: a 32-bit number, a string, or nested attributes. */
interface Attribute {
  /** The kernel's number, `IFLA_*` or `TCA_*`. */
  readonly type: number;
  readonly value: number | string | readonly Attribute[];
}

/** A request of the rtnetlink protocol. */
export interface RouteRequest {
  /** The kernel's number, `RTM_*`. */
  readonly type: number;
  /** Flags `NLM_F_*`, in addition to those of every request. */
  readonly flags: number;
  /** The struct at the start of messages of this type. */
  readonly header: Uint8Array;
  readonly attributes: readonly Attribute[];
  /** The operation, as it follows "cannot" in the message. */
  readonly doing: string;
}

/** An rtnetlink(7) socket, for the network interfaces and the traffic control of this thread's network namespace. */
export class RouteSocket implements Disposable {
  readonly #socket: Descriptor;

  /** @throws {BpfError} if the socket cannot be created. */
  constructor() {
    this.#socket = openSocket("netlink", NETLINK_ROUTE, "netlink socket");
  }

  /** Sends a request and waits for its acknowledgement. @throws {BpfError} if the kernel returns an error. */
  request({ type, flags, header, attributes, doing }: RouteRequest): void {
    const body = Buffer.concat([pad(header), ...attributes.map(encode)]);
    const length = headerSize + body.length;
    using message = allocateScratch(length);
    message.view.setUint32(0, length, true);
    message.view.setUint16(4, type, true);
    message.view.setUint16(6, flags | NLM_F_REQUEST | NLM_F_ACK, true);
    message.bytes.set(body, headerSize);
    const errno = this.#exchange(message.address, length);
    if (errno === 0) return;
    const isForbidden = errnoName(errno) === "EPERM";
    throw new BpfError({
      errno,
      syscall: "netlink",
      doing,
      hint: isForbidden ? () => explainPermission(["CAP_NET_ADMIN"]) : undefined,
    });
  }

  /** Sends a message and receives the reply. Returns the errno of the reply or of the failed call, or 0. */
  #exchange(address: number, length: number): number {
    const { fd } = this.#socket;
    if (otherLibc.send(fd, address as Pointer, length, 0) < 0) return lastErrno();
    // The kernel processes the request and replies before send(2) returns, so recv(2) does not wait.
    using reply = allocateScratch(replySize);
    if (otherLibc.recv(fd, reply.address as Pointer, reply.length, 0) < 0) return lastErrno();
    const type = reply.view.getUint16(4, true);
    if (type !== NLMSG_ERROR) throw new Error(`unexpected netlink reply of type ${type}`);
    return -reply.view.getInt32(headerSize, true);
  }

  [Symbol.dispose](): void {
    this.#socket[Symbol.dispose]();
  }
}

function encode({ type, value }: Attribute): Buffer {
  const bytes = encodeValue(value);
  const header = Buffer.alloc(attributeHeaderSize);
  header.writeUInt16LE(attributeHeaderSize + bytes.length, 0);
  header.writeUInt16LE(Array.isArray(value) ? type | NLA_F_NESTED : type, 2);
  return Buffer.concat([header, pad(bytes)]);
}

function encodeValue(value: Attribute["value"]): Buffer {
  if (typeof value === "string") return Buffer.from(`${value}\0`);
  if (typeof value !== "number") return Buffer.concat(value.map(encode));
  const bytes = Buffer.alloc(4);
  bytes.writeInt32LE(value | 0);
  return bytes;
}

/** Pads to a multiple of 4 bytes, as netlink aligns headers and attributes. */
function pad(bytes: Uint8Array): Uint8Array {
  const padded = new Uint8Array(Math.ceil(bytes.length / 4) * 4);
  padded.set(bytes);
  return padded;
}
