/** @module Sockets made by system calls, for maps of sockets: Bun's sockets do not expose enough. */
import { dlopen } from "bun:ffi";
import { Descriptor } from "../../src/ffi/descriptor.ts";

const { socket, bind, listen, setsockopt, getsockopt, getsockname, connect, accept, send, recv } =
  dlopen("libc.so.6", {
    socket: { args: ["i32", "i32", "i32"], returns: "i32" },
    bind: { args: ["i32", "ptr", "u32"], returns: "i32" },
    listen: { args: ["i32", "i32"], returns: "i32" },
    setsockopt: { args: ["i32", "i32", "i32", "ptr", "u32"], returns: "i32" },
    getsockopt: { args: ["i32", "i32", "i32", "ptr", "ptr"], returns: "i32" },
    getsockname: { args: ["i32", "ptr", "ptr"], returns: "i32" },
    connect: { args: ["i32", "ptr", "u32"], returns: "i32" },
    accept: { args: ["i32", "ptr", "ptr"], returns: "i32" },
    send: { args: ["i32", "ptr", "u64", "i32"], returns: "i64" },
    recv: { args: ["i32", "ptr", "u64", "i32"], returns: "i64" },
  }).symbols;

const AF_UNIX = 1;
const AF_INET = 2;
const AF_XDP = 44;
const SOCK_STREAM = 1;
const SOCK_DGRAM = 2;
const SOCK_RAW = 3;
const SOL_SOCKET = 1;
const SO_REUSEPORT = 15;
const SO_ATTACH_REUSEPORT_EBPF = 52;
const SO_COOKIE = 57;

function check(result: number, what: string): number {
  if (result < 0) throw new Error(`${what} failed`);
  return result;
}

function open(family: number, type: number, what: string): Descriptor {
  return new Descriptor(check(socket(family, type, 0), `socket for a ${what}`), what);
}

export function setOption(fd: number, option: number, value: number): void {
  check(setsockopt(fd, SOL_SOCKET, option, new Uint32Array([value]), 4), `option ${option}`);
}

/** Returns the address of a port of 127.0.0.1; 0 means any port. */
function addressOf(port: number): Uint8Array {
  const address = new DataView(new ArrayBuffer(16));
  address.setUint16(0, AF_INET, true);
  address.setUint16(2, port);
  address.setUint32(4, 0x7f000001);
  return new Uint8Array(address.buffer);
}

/** Binds a socket to a port of 127.0.0.1; 0 means any port. */
function bindTo(fd: number, port: number): void {
  const address = addressOf(port);
  check(bind(fd, address, address.length), "bind");
}

/** Connects a socket to a port of 127.0.0.1. */
export function connectTo({ fd }: Descriptor, port: number): void {
  const address = addressOf(port);
  check(connect(fd, address, address.length), "connect");
}

/** Opens two TCP sockets that are connected. */
export function connectedPair(): [Descriptor, Descriptor] {
  using server = listener({ reusePort: false });
  const client = idleSocket();
  connectTo(client, portOf(server));
  return [
    client,
    new Descriptor(check(accept(server.fd, null, null), "accept"), "accepted socket"),
  ];
}

/** Sends 4 bytes over a connected socket. */
export function sendOver({ fd }: Descriptor): void {
  check(Number(send(fd, new Uint8Array(4), 4, 0)), "send");
}

/** Receives at most 64 bytes without waiting. Returns their number; `undefined` if there is nothing to receive. */
export function receivedBy({ fd }: Descriptor): number | undefined {
  const MSG_DONTWAIT = 0x40;
  const count = Number(recv(fd, new Uint8Array(64), 64, MSG_DONTWAIT));
  return count < 0 ? undefined : count;
}

/** Opens sockets that share a port of 127.0.0.1, or have one each. */
export interface PortOptions {
  readonly port?: number;
  readonly reusePort?: boolean;
}

/** Opens a listening TCP socket. */
export function listener({ port = 0, reusePort = true }: PortOptions = {}): Descriptor {
  const made = open(AF_INET, SOCK_STREAM, "listening socket");
  if (reusePort) setOption(made.fd, SO_REUSEPORT, 1);
  bindTo(made.fd, port);
  check(listen(made.fd, 8), "listen");
  return made;
}

/** Opens a UDP socket with a port. */
export function datagramSocket({ port = 0, reusePort = true }: PortOptions = {}): Descriptor {
  const made = open(AF_INET, SOCK_DGRAM, "UDP socket");
  if (reusePort) setOption(made.fd, SO_REUSEPORT, 1);
  bindTo(made.fd, port);
  return made;
}

/** Opens a TCP socket that is neither connected nor listening. */
export function idleSocket(): Descriptor {
  return open(AF_INET, SOCK_STREAM, "idle socket");
}

/** Opens a Unix socket that is neither connected nor listening. */
export function unixSocket(): Descriptor {
  return open(AF_UNIX, SOCK_STREAM, "Unix socket");
}

/** Opens a socket for an {@link XskMap}, without memory for packets. */
export function xdpSocket(): Descriptor {
  return open(AF_XDP, SOCK_RAW, "AF_XDP socket");
}

/** Returns the port that a socket is bound to. */
export function portOf({ fd }: Descriptor): number {
  const address = new DataView(new ArrayBuffer(16));
  const bytes = new Uint8Array(address.buffer);
  check(getsockname(fd, bytes, new Uint32Array([bytes.length])), "getsockname");
  return address.getUint16(2);
}

/** Returns the cookie of a socket by getsockopt(2). */
export function cookieOf({ fd }: Descriptor): bigint {
  const cookie = new BigUint64Array(1);
  check(getsockopt(fd, SOL_SOCKET, SO_COOKIE, cookie, new Uint32Array([8])), "SO_COOKIE");
  return cookie[0] as bigint;
}

/** Attaches a program that selects among the sockets that share a socket's port. */
export function selectBy(program: Descriptor, { fd }: Descriptor): void {
  setOption(fd, SO_ATTACH_REUSEPORT_EBPF, program.fd);
}
