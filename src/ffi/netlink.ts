/** @module rtnetlink(7): requests to the kernel about network interfaces and traffic control. */

import type { Pointer } from "bun:ffi";
import type { Descriptor } from "./descriptor.ts";
import { BpfError, errnoName, lastErrno } from "./error.ts";
import { isKernelSince } from "./kernel.ts";
import { otherLibc } from "./libc_others.ts";
import { allocateScratch } from "./mapped_memory.ts";
import { explainPermission } from "./permission.ts";
import { openSocket, setSocketOption } from "./socket.ts";
import {
  NETLINK_ROUTE,
  NLA_F_NESTED,
  NLA_TYPE_MASK,
  NLM_F_ACK,
  NLM_F_ACK_TLVS,
  NLM_F_DUMP,
  NLM_F_DUMP_INTR,
  NLM_F_REQUEST,
  NLMSG_DONE,
  NLMSG_ERROR,
  NLMSGERR_ATTR_MSG,
} from "../uapi/network.ts";

/** `struct nlmsghdr`: length, type, flags, sequence number, port. */
const headerSize = 16;
/** `struct nlattr`: length and type, before the value. */
const attributeHeaderSize = 4;
/** Size of the buffer for replies, in bytes. The kernel packs at most 32 KiB of a list into one reply. */
const replySize = 32 * 1024;
/** Maximum number of times that a list is read, because it can change meanwhile. */
const maxDumps = 100;

/** An attribute of a request: a 32-bit number, a string, or nested attributes. */
interface Attribute {
  /** The kernel's number, `IFLA_*` or `TCA_*`. */
  readonly type: number;
  readonly value: number | string | Uint8Array | readonly Attribute[];
}

/** A request of the rtnetlink protocol. */
export interface RouteRequest {
  /** The kernel's number, `RTM_*`. */
  readonly type: number;
  /** Flags `NLM_F_*`, in addition to those of every request. */
  readonly flags?: number;
  /** The struct at the start of messages of this type. */
  readonly header: Uint8Array;
  readonly attributes?: readonly Attribute[];
  /** The operation, as it follows "cannot" in the message. */
  readonly doing: string;
  /** Hints by errno name. The message of the kernel follows them. */
  readonly hints?: RouteHints;
}

/** Hints by errno name. A hint that is a function is called only on failure. */
export type RouteHints = Readonly<Record<string, string | (() => string | undefined)>>;

/** The values of attributes in a message of the kernel, by their numbers. */
export type Attributes = ReadonlyMap<number, Buffer>;

/** A message of the kernel about one object. */
export interface RouteMessage {
  /** The struct at the start: of the same type as that of the request. */
  readonly header: Buffer;
  readonly attributes: Attributes;
}

/** The end of a reply. */
interface ReplyEnd {
  /** The number of the error, or 0. */
  readonly errno: number;
  /** The text in which the kernel explains the error (kernel 4.12). */
  readonly message?: string | undefined;
  /** True if the list changed while the kernel wrote it. */
  readonly isInterrupted?: boolean;
}

/**
 * An rtnetlink(7) socket, for the network interfaces and the traffic control of one network namespace: the one that the
 * thread is in when the socket is created.
 */
export class RouteSocket implements Disposable {
  /** The descriptor of the socket, which belongs to this object. */
  readonly descriptor: Descriptor;
  /** The number of the last request. */
  #sequence = 0;

  /** @throws {BpfError} if the socket cannot be created. */
  constructor() {
    this.descriptor = openSocket("netlink", NETLINK_ROUTE, "netlink socket");
    // Kernels before 4.12 return only the number of an error.
    if (!isKernelSince("4.12")) return;
    try {
      const context = { doing: `set up the ${this.descriptor.what}` };
      setSocketOption(this.descriptor.fd, "NETLINK_EXT_ACK", 1, context);
      setSocketOption(this.descriptor.fd, "NETLINK_CAP_ACK", 1, context);
    } catch (error) {
      this.descriptor[Symbol.dispose]();
      throw error;
    }
  }

  /**
   * Sends a request and waits for its acknowledgement. Returns the messages of the reply, of which there is one if the request
   * asks for an object, or for an echo of its changes (`NLM_F_ECHO`).
   *
   * @throws {BpfError} if the kernel returns an error.
   */
  request(request: RouteRequest): RouteMessage[] {
    const messages: RouteMessage[] = [];
    const end = this.#exchange(request, NLM_F_ACK, messages);
    if (end.errno !== 0) throw routeError(request, end);
    return messages;
  }

  /**
   * Lists all objects of a type.
   *
   * @throws {BpfError} if the kernel returns an error, or the list changes all the time.
   */
  dump(request: RouteRequest): RouteMessage[] {
    for (let attempt = 1; ; attempt++) {
      const messages: RouteMessage[] = [];
      const end = this.#exchange(request, NLM_F_DUMP, messages);
      if (end.errno !== 0) throw routeError(request, end);
      if (end.isInterrupted !== true) return messages;
      if (attempt === maxDumps) {
        throw new Error(`cannot ${request.doing}: the list changes faster than it can be read`);
      }
    }
  }

  /** Sends a request and receives the reply, up to its end. A failed call is an end, too. */
  #exchange(request: RouteRequest, flags: number, messages: RouteMessage[]): ReplyEnd {
    const { fd } = this.descriptor;
    const { type, header, attributes = [] } = request;
    const body = Buffer.concat([pad(header), ...attributes.map(encode)]);
    const length = headerSize + body.length;
    using message = allocateScratch(length);
    message.view.setUint32(0, length, true);
    message.view.setUint16(4, type, true);
    message.view.setUint16(6, (request.flags ?? 0) | NLM_F_REQUEST | flags, true);
    const sequence = (this.#sequence + 1) >>> 0;
    this.#sequence = sequence;
    message.view.setUint32(8, sequence, true);
    message.bytes.set(body, headerSize);
    if (otherLibc.send(fd, message.address as Pointer, length, 0) < 0) {
      return { errno: lastErrno() };
    }
    // The kernel processes the request before send(2) returns, and each further part of a list in recv(2): no call waits.
    using reply = allocateScratch(replySize);
    let isInterrupted = false;
    for (;;) {
      const received = otherLibc.recv(fd, reply.address as Pointer, reply.length, 0);
      if (received < 0) return { errno: lastErrno() };
      const bytes = Buffer.from(reply.bytes.subarray(0, received));
      for (const part of splitMessages(bytes)) {
        // If an earlier reply could not be read to its end, the rest of it comes first.
        if (part.sequence !== sequence) continue;
        if ((part.flags & NLM_F_DUMP_INTR) !== 0) isInterrupted = true;
        if (part.type === NLMSG_ERROR || part.type === NLMSG_DONE) {
          return { ...endOf(part), isInterrupted };
        }
        messages.push({
          header: part.payload.subarray(0, header.length),
          attributes: parseAttributes(part.payload.subarray(align(header.length))),
        });
      }
    }
  }

  [Symbol.dispose](): void {
    this.descriptor[Symbol.dispose]();
  }
}

interface Part {
  readonly type: number;
  readonly flags: number;
  /** The number of the request that the message answers. */
  readonly sequence: number;
  readonly payload: Buffer;
}

function* splitMessages(bytes: Buffer): Generator<Part, undefined, undefined> {
  for (let at = 0; at + headerSize <= bytes.length;) {
    const length = bytes.readUInt32LE(at);
    if (length < headerSize || at + length > bytes.length) {
      throw new Error("a netlink reply is longer than the buffer for it");
    }
    yield {
      type: bytes.readUInt16LE(at + 4),
      flags: bytes.readUInt16LE(at + 6),
      sequence: bytes.readUInt32LE(at + 8),
      payload: bytes.subarray(at + headerSize, at + length),
    };
    at += align(length);
  }
}

/** Parses an acknowledgement (the negative errno, the header of the request, and attributes) or the end of a list, without a header. */
function endOf({ type, flags, payload }: Part): ReplyEnd {
  const errno = -payload.readInt32LE(0);
  if ((flags & NLM_F_ACK_TLVS) === 0) return { errno };
  // NETLINK_CAP_ACK leaves out the rest of the request.
  const start = type === NLMSG_ERROR ? 4 + headerSize : 4;
  const text = parseAttributes(payload.subarray(start)).get(NLMSGERR_ATTR_MSG);
  return { errno, message: text && attributeText(text) };
}

/** Returns the attributes in a message, or the attributes that are nested in the value of another one. */
export function parseAttributes(bytes: Buffer): Attributes {
  const attributes = new Map<number, Buffer>();
  for (let at = 0; at + attributeHeaderSize <= bytes.length;) {
    const length = bytes.readUInt16LE(at);
    if (length < attributeHeaderSize) break;
    const type = bytes.readUInt16LE(at + 2) & NLA_TYPE_MASK;
    attributes.set(type, bytes.subarray(at + attributeHeaderSize, at + length));
    at += align(length);
  }
  return attributes;
}

/** Returns the text in the value of an attribute, which ends with a NUL. */
export function attributeText(value: Buffer): string {
  const end = value.indexOf(0);
  return value.toString("utf8", 0, end === -1 ? value.length : end);
}

function routeError({ doing, hints }: RouteRequest, { errno, message }: ReplyEnd): BpfError {
  const code = errnoName(errno);
  return new BpfError({
    errno,
    syscall: "netlink",
    doing,
    hint() {
      const particular = hints?.[code];
      const hint = typeof particular === "function" ? particular() : particular;
      const own = hint ?? (code === "EPERM" ? explainPermission(["CAP_NET_ADMIN"]) : undefined);
      const texts = [own, message && `The kernel's message: ${message.trim()}`];
      return texts.filter(Boolean).join(". ") || undefined;
    },
  });
}

function encode({ type, value }: Attribute): Buffer {
  const bytes = encodeValue(value);
  const header = Buffer.alloc(attributeHeaderSize);
  header.writeUInt16LE(attributeHeaderSize + bytes.length, 0);
  header.writeUInt16LE(Array.isArray(value) ? type | NLA_F_NESTED : type, 2);
  return Buffer.concat([header, pad(bytes)]);
}

function encodeValue(value: Attribute["value"]): Uint8Array {
  if (typeof value === "string") return Buffer.from(`${value}\0`);
  if (value instanceof Uint8Array) return value;
  if (typeof value !== "number") return Buffer.concat(value.map(encode));
  const bytes = Buffer.alloc(4);
  bytes.writeInt32LE(value | 0);
  return bytes;
}

/** Pads to a multiple of 4 bytes, as netlink aligns headers and attributes. */
function pad(bytes: Uint8Array): Uint8Array {
  const padded = new Uint8Array(align(bytes.length));
  padded.set(bytes);
  return padded;
}

function align(length: number): number {
  return Math.ceil(length / 4) * 4;
}
