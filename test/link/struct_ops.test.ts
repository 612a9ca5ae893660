/** Tests of structs of functions: a TCP congestion control algorithm, which connections select by its name. */
import { dlopen, ptr } from "bun:ffi";
import { expect } from "bun:test";
import { registerCongestionControl } from "../../src/features/attach_probes.ts";
import { Descriptor } from "../../src/ffi/descriptor.ts";
import { errnoName, lastErrno } from "../../src/ffi/error.ts";
import {
  AF_INET,
  SOCK_CLOEXEC,
  SOCK_STREAM,
  SOL_TCP,
  TCP_CONGESTION,
} from "../../src/uapi/network.ts";
import { TestNetwork } from "../support/network.ts";
import { RunCounter } from "./counter.ts";
import { wayTest } from "./way.ts";

/** The functions of libc that make TCP connections. */
const libc = dlopen("libc.so.6", {
  socket: { args: ["i32", "i32", "i32"], returns: "i32" },
  bind: { args: ["i32", "ptr", "u32"], returns: "i32" },
  listen: { args: ["i32", "i32"], returns: "i32" },
  connect: { args: ["i32", "ptr", "u32"], returns: "i32" },
  accept: { args: ["i32", "ptr", "ptr"], returns: "i32" },
  send: { args: ["i32", "ptr", "u64", "i32"], returns: "i64" },
  recv: { args: ["i32", "ptr", "u64", "i32"], returns: "i64" },
  setsockopt: { args: ["i32", "i32", "i32", "ptr", "u32"], returns: "i32" },
}).symbols;

/** A name that no other process uses. The kernel has 16 bytes for it. */
const algorithm = `bunbpf_t${process.pid % 1_000_000}`;

for (const [way, byLink] of [
  ["struct_ops", false],
  ["struct_ops.link", true],
] as const) {
  wayTest(way, () => {
    using counter = new RunCounter();
    using network = new TestNetwork();
    using programs = new DisposableStack();
    const registered = registerCongestionControl(algorithm, byLink, (member) => {
      const section = `struct_ops/tcp_congestion_ops.${member}` as const;
      return programs.use(counter.program(section, 0));
    });
    try {
      expect(network.enter(() => exchange())).toBeUndefined();
      expect(counter.runs).toBe(0);
      expect(network.enter(() => exchange(algorithm))).toBeUndefined();
      expect(counter.runs).toBeGreaterThan(0);
    } finally {
      registered[Symbol.dispose]();
    }
    const { runs } = counter;
    expect(network.enter(() => exchange(algorithm))).toBe("ENOENT");
    expect(network.enter(() => exchange())).toBeUndefined();
    expect(counter.runs).toBe(runs);
  });
}

/** The next port in a test's network namespace, which nobody else uses. */
let nextPort = 1;

/**
 * Sends data through a TCP connection and waits for an answer, which acknowledges it.
 *
 * @returns the name of the error if the sender cannot select the algorithm
 */
function exchange(congestionControl?: string): string | undefined {
  using server = open();
  using client = open();
  // A port of 127.0.0.1. Each connection has another one, because the kernel keeps the port of a closed connection for a while.
  const address = new Uint8Array(16);
  address.set([AF_INET, 0, 0, nextPort++, 127, 0, 0, 1]);
  succeed(libc.bind(server.fd, ptr(address), address.length));
  succeed(libc.listen(server.fd, 1));
  if (congestionControl !== undefined) {
    const name = Buffer.from(congestionControl);
    const result = libc.setsockopt(client.fd, SOL_TCP, TCP_CONGESTION, ptr(name), name.length);
    if (result < 0) return errnoName(lastErrno());
  }
  succeed(libc.connect(client.fd, ptr(address), address.length));
  using peer = new Descriptor(succeed(libc.accept(server.fd, null, null)), "accepted socket");
  const data = new Uint8Array(8);
  for (const [from, to] of [
    [client, peer],
    [peer, client],
  ] as const) {
    expect(libc.send(from.fd, ptr(data), data.length, 0)).toBe(8n);
    expect(libc.recv(to.fd, ptr(data), data.length, 0)).toBe(8n);
  }
  return undefined;
}

function open(): Descriptor {
  const fd = succeed(libc.socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  return new Descriptor(fd, "TCP socket");
}

function succeed(result: number): number {
  if (result < 0) throw new Error(`a call for a TCP connection returned ${errnoName(lastErrno())}`);
  return result;
}
