import type { Pointer } from "bun:ffi";
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
  SO_REUSEPORT,
} from "../uapi/network.ts";

/**
 * The index of a network interface in this process's network namespace, by its name.
 *
 * @param name without NUL
 * @throws {BpfError} `ENODEV` where there is none
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
        ? "This network namespace has no interface of that name: `ip link` lists those that it has"
        : undefined,
  });
}

/** The name of the network interface of this index in this process's network namespace, or `undefined` where it has none. */
export function interfaceName(index: number): string | undefined {
  using memory = allocateScratch(IFNAMSIZ);
  if (otherLibc.if_indextoname(index, memory.address as Pointer) === null) return undefined;
  return Buffer.from(memory.bytes.subarray(0, memory.bytes.indexOf(0))).toString("utf8");
}

/** Flags for a send that neither waits nor raises SIGPIPE. */
export const sendWithoutBlocking = MSG_DONTWAIT | MSG_NOSIGNAL;

/** Two connected stream sockets that do not block and are closed on exec. */
export function socketPair(what: string): [Descriptor, Descriptor] {
  using fds = allocateScratch(8);
  const type = SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC;
  if (otherLibc.socketpair(AF_UNIX, type, 0, fds.address as Pointer) < 0) {
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
  const fd = otherLibc.socket(family, type | SOCK_CLOEXEC, protocol);
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
  if (otherLibc.setsockopt(fd, SOL_SOCKET, options[option], address, 4) >= 0) return;
  const errno = lastErrno();
  throw new BpfError({
    errno,
    syscall: `setsockopt(${option})`,
    doing: `set up the ${what}`,
    hint: errnoName(errno) === "EPERM" ? () => explainPermission(["CAP_BPF"]) : undefined,
  });
}

/** `struct nlmsghdr`: length, type, flags, sequence number, port. */
const headerSize = 16;
/** `struct nlattr`: length and type, before the value. */
const attributeHeaderSize = 4;
/** The kernel answers with its verdict and, for a failure, what it refused. */
const roomForAnswer = 8192;

/** An attribute of a message: a number of 32 bits, a text, or attributes in it. */
export interface Attribute {
  /** The kernel's number, `IFLA_*` or `TCA_*`. */
  readonly type: number;
  readonly value: number | string | readonly Attribute[];
}

/** What is asked of the kernel. */
export interface RouteRequest {
  /** The kernel's number, `RTM_*`. */
  readonly type: number;
  /** The kernel's bits, `NLM_F_*`, beside those that every request has. */
  readonly flags: number;
  /** The struct that messages of this type begin with. */
  readonly header: Uint8Array;
  readonly attributes: readonly Attribute[];
  /** To follow "cannot". */
  readonly doing: string;
}

/** A socket to the part of the kernel that has network interfaces and traffic control: those of this thread's network namespace. */
export class RouteSocket implements Disposable {
  readonly #socket: Descriptor;

  /** @throws {BpfError} */
  constructor() {
    this.#socket = openSocket("netlink", NETLINK_ROUTE, "netlink socket");
  }

  /** Has something done. @throws {BpfError} with what the kernel answers */
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
    const refused = errnoName(errno) === "EPERM";
    throw new BpfError({
      errno,
      syscall: "netlink",
      doing,
      hint: refused ? () => explainPermission(["CAP_NET_ADMIN"]) : undefined,
    });
  }

  /** The number of the error that the kernel answers, or that the call ended with; 0 for none. */
  #exchange(address: number, length: number): number {
    const { fd } = this.#socket;
    if (otherLibc.send(fd, address as Pointer, length, 0) < 0) return lastErrno();
    // The kernel has done it, and answered, before the call returns.
    using answer = allocateScratch(roomForAnswer);
    if (otherLibc.recv(fd, answer.address as Pointer, answer.length, 0) < 0) return lastErrno();
    const type = answer.view.getUint16(4, true);
    if (type !== NLMSG_ERROR) throw new Error(`netlink answered a message of type ${type}`);
    return -answer.view.getInt32(headerSize, true);
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

/** Everything in a message begins at a multiple of 4 bytes. */
function pad(bytes: Uint8Array): Uint8Array {
  const padded = new Uint8Array(Math.ceil(bytes.length / 4) * 4);
  padded.set(bytes);
  return padded;
}
