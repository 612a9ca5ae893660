import type { Pointer } from "bun:ffi";
import {
  NETLINK_ROUTE,
  NLA_F_NESTED,
  NLM_F_ACK,
  NLM_F_REQUEST,
  NLMSG_ERROR,
} from "../uapi/netlink.ts";
import { explainPermission } from "./permission.ts";
import type { Descriptor } from "./descriptor.ts";
import { errnoName, lastErrno } from "./errno.ts";
import { BpfError } from "./error.ts";
import { libc } from "./libc.ts";
import { allocateScratch } from "./scratch.ts";
import { openSocket } from "./socket.ts";

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
      hint: refused ? explainPermission(["CAP_NET_ADMIN"]) : undefined,
    });
  }

  /** The number of the error that the kernel answers, or that the call ended with; 0 for none. */
  #exchange(address: number, length: number): number {
    const { fd } = this.#socket;
    if (libc.send(fd, address as Pointer, length, 0) < 0) return lastErrno();
    // The kernel has done it, and answered, before the call returns.
    using answer = allocateScratch(roomForAnswer);
    if (libc.recv(fd, answer.address as Pointer, answer.length, 0) < 0) return lastErrno();
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
