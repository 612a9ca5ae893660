/**
 * Causes events that programs of cgroups and network namespaces see, in a network namespace of its own. Reads the name of an event from each line of standard input, and prints a line
 * when the event has happened: "done", or the reason for which it failed.
 */
import { dlopen } from "bun:ffi";
import { closeSync, openSync, readFileSync } from "node:fs";

const address = ["i32", "ptr", "u32"] as const;
const { symbols: libc } = dlopen("libc.so.6", {
  socket: { args: ["i32", "i32", "i32"], returns: "i32" },
  bind: { args: address, returns: "i32" },
  connect: { args: address, returns: "i32" },
  listen: { args: ["i32", "i32"], returns: "i32" },
  getsockname: { args: ["i32", "ptr", "ptr"], returns: "i32" },
  getpeername: { args: ["i32", "ptr", "ptr"], returns: "i32" },
  getsockopt: { args: ["i32", "i32", "i32", "ptr", "ptr"], returns: "i32" },
  setsockopt: { args: ["i32", "i32", "i32", "ptr", "u32"], returns: "i32" },
  sendto: { args: ["i32", "ptr", "u64", "i32", "ptr", "u32"], returns: "i64" },
  recvfrom: { args: ["i32", "ptr", "u64", "i32", "ptr", "ptr"], returns: "i64" },
  unshare: { args: ["i32"], returns: "i32" },
  ioctl: { args: ["i32", "u64", "ptr"], returns: "i32" },
});

const AF_UNIX = 1;
const AF_INET = 2;
const AF_INET6 = 10;
const SOCK_STREAM = 1;
const SOCK_DGRAM = 2;
const SOCK_RAW = 3;
const AF_PACKET = 17;
const ETH_P_ALL = 0x0003;
const SOL_PACKET = 263;
const PACKET_FANOUT = 18;
const CLONE_NEWNET = 0x40000000;
const SIOCSIFFLAGS = 0x8914;
const IFF_UP = 1;
const SOL_SOCKET = 1;
const SO_RCVBUF = 8;
const quotactl = { x64: 179, arm64: 60 }[process.arch as "x64" | "arm64"];
const { symbols: calls } = dlopen("libc.so.6", {
  syscall: { args: ["i64", "i32", "ptr", "i32", "ptr"], returns: "i64" },
});

type Family = 4 | 6 | "_unix";

function check(result: number | bigint, what: string): number {
  if (result < 0) throw new Error(`${what} failed`);
  return Number(result);
}

let names = 0;

/** Returns the loopback address with any port, or a new abstract name of a Unix socket. */
function addressOf(family: Family): Uint8Array {
  if (family === "_unix") {
    const name = Buffer.from(`\0bun-bpf-${process.pid}-${names++}`);
    return Buffer.concat([new Uint8Array(Uint16Array.of(AF_UNIX).buffer), name]);
  }
  const bytes = new Uint8Array(family === 4 ? 16 : 28);
  new DataView(bytes.buffer).setUint16(0, family === 4 ? AF_INET : AF_INET6, true);
  if (family === 4) bytes.set([127, 0, 0, 1], 4);
  else bytes[23] = 1;
  return bytes;
}

function open(family: Family, type = SOCK_DGRAM): number {
  const domain = family === 4 ? AF_INET : family === 6 ? AF_INET6 : AF_UNIX;
  return check(libc.socket(domain, type, 0), "socket");
}

/** Binds a socket, and returns its address. */
function bind(fd: number, family: Family): Uint8Array {
  const wanted = addressOf(family);
  check(libc.bind(fd, wanted, wanted.length), "bind");
  return nameOf(fd, libc.getsockname);
}

function nameOf(fd: number, call: typeof libc.getsockname): Uint8Array {
  const bytes = new Uint8Array(128);
  const size = Uint32Array.of(bytes.length);
  check(call(fd, bytes, size), "the name of a socket");
  return bytes.slice(0, size[0]);
}

function use(fds: readonly number[], body: () => void): void {
  try {
    body();
  } finally {
    for (const fd of fds) closeSync(fd);
  }
}

function bindOnly(family: Family): void {
  const fd = open(family);
  use([fd], () => bind(fd, family));
}

/** Sends a datagram from one socket to another without connecting them, and receives it. */
function exchange(family: Family): void {
  const [from, to] = [open(family), open(family)];
  use([from, to], () => {
    bind(from, family);
    const target = bind(to, family);
    const data = new Uint8Array(4);
    check(libc.sendto(from, data, 4, 0, target, target.length), "sendto");
    const sender = new Uint8Array(128);
    check(libc.recvfrom(to, data, 4, 0, sender, Uint32Array.of(128)), "recvfrom");
  });
}

/** Connects a socket, and asks for the addresses of both sides. */
function connect(family: Family): void {
  const [from, to] = [open(family), open(family)];
  use([from, to], () => {
    bind(from, family);
    const target = bind(to, family);
    check(libc.connect(from, target, target.length), "connect");
    nameOf(from, libc.getsockname);
    nameOf(from, libc.getpeername);
  });
}

function connectTcp(): void {
  const [server, client] = [open(4, SOCK_STREAM), open(4, SOCK_STREAM)];
  use([server, client], () => {
    const target = bind(server, 4);
    check(libc.listen(server, 1), "listen");
    check(libc.connect(client, target, target.length), "connect");
  });
}

function setOption(): void {
  const fd = open(4);
  use([fd], () => {
    const size = Uint32Array.of(65536);
    check(libc.setsockopt(fd, SOL_SOCKET, SO_RCVBUF, size, 4), "setsockopt");
    check(libc.getsockopt(fd, SOL_SOCKET, SO_RCVBUF, size, Uint32Array.of(4)), "getsockopt");
  });
}

/** Receives packets by a group of one packet socket, for which the kernel hashes the flow of each packet. */
function hashFlows(): void {
  const bigEndian = ETH_P_ALL << 8;
  const fd = check(libc.socket(AF_PACKET, SOCK_RAW, bigEndian), "packet socket");
  use([fd], () => {
    const loopback = new DataView(new ArrayBuffer(20));
    loopback.setUint16(0, AF_PACKET, true);
    loopback.setUint16(2, ETH_P_ALL);
    loopback.setInt32(4, 1, true);
    check(libc.bind(fd, new Uint8Array(loopback.buffer), loopback.byteLength), "bind to lo");
    const group = Uint32Array.of(process.pid & 0xffff);
    check(libc.setsockopt(fd, SOL_PACKET, PACKET_FANOUT, group, 4), "PACKET_FANOUT");
    exchange(4);
  });
}

function enterNewNetns(): void {
  check(libc.unshare(CLONE_NEWNET), "unshare");
  const request = new Uint8Array(40);
  request.set(Buffer.from("lo"));
  request[16] = IFF_UP;
  const fd = open(4);
  use([fd], () => check(libc.ioctl(fd, SIOCSIFFLAGS, request), "SIOCSIFFLAGS"));
}

/** The events by name. */
const events: Readonly<Record<string, () => void>> = {
  bind4: () => bindOnly(4),
  bind6: () => bindOnly(6),
  exchange4: () => exchange(4),
  exchange6: () => exchange(6),
  exchange_unix: () => exchange("_unix"),
  connect4: () => connect(4),
  connect6: () => connect(6),
  connect_unix: () => connect("_unix"),
  tcp: connectTcp,
  hash: hashFlows,
  option: setOption,
  sysctl: () => readFileSync("/proc/sys/kernel/hostname"),
  device: () => closeSync(openSync("/dev/null", "r")),
  // The security hook runs for a sync of all quotas, before the kernel finds that there are none.
  quotactl: () => calls.syscall(quotactl, 0x800001 << 8, null, 0, null),
};

enterNewNetns();
console.log("ready");
for await (const name of console) {
  const event = events[name];
  if (event === undefined) throw new Error(`no event ${name}`);
  try {
    event();
    console.log("done");
  } catch (error) {
    console.log(`${name}: ${(error as Error).message}`);
  }
}
