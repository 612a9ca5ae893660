import { describe, expect } from "bun:test";
import net from "node:net";
import { Descriptor } from "../../src/ffi/descriptor.ts";
import { MapElement } from "../../src/ffi/bpf_map_element.ts";
import {
  asm,
  BatchError,
  Program,
  ReuseportSockArray,
  SockHash,
  SockMap,
  t,
} from "../../src/index.ts";
import { createFromSpec } from "../../src/maps/create.ts";
import { mapType, type MapTypeName } from "../../src/maps/map_types.ts";
import { bpfTest } from "../support/privilege.ts";
import { refusalOf } from "./refusal_of.ts";
import {
  cookieOf,
  datagramSocket,
  idleSocket,
  listener,
  portOf,
  selectBy,
  unixSocket,
} from "./sockets.ts";
import { loadProbe } from "../../src/features/probe_program.ts";

const { r0, r1, r2, r3, r4, fp, add, call, exit, jeq, label, ldMap, mov, stw } = asm;

/** Creates a map with values of 4 bytes, as other programs do: they have room for a descriptor, and not for a cookie. */
function smallMap(type: MapTypeName): Descriptor {
  const sizes = { keySize: 4, valueSize: 4, maxEntries: 4 };
  const rest = { flags: 0, numaNode: -1, name: "small", mapExtra: 0 };
  return new Descriptor(createFromSpec(mapType(type), { type, ...sizes, ...rest }), "small map");
}

/** Returns true if a program finds a socket under the key 1. */
function finder(sockets: SockMap | SockHash<t.Type<number>>): Program {
  return new Program({
    section: "tc",
    license: "GPL",
    maps: { sockets },
    code: [
      stw(fp, -4, 1),
      ldMap(r1, "sockets"),
      mov(r2, fp),
      add(r2, -4),
      call("map_lookup_elem"),
      jeq(r0, 0, "absent"),
      mov(r1, r0),
      call("sk_release"),
      mov(r0, 1),
      label("absent"),
      exit(),
    ],
  });
}

const packet = { data: new Uint8Array(14) };

describe("a map of sockets", () => {
  for (const [name, make] of [
    ["by index", () => new SockMap({ length: 4 })],
    ["by key", () => new SockHash({ key: t.u32, maxEntries: 4 })],
  ] as const) {
    bpfTest(`${name} returns cookies to user space and sockets to programs`, () => {
      using map = make();
      using program = finder(map);
      using first = listener();
      using second = datagramSocket();
      const isFound = () => program.testRun(packet).returnValue === 1;
      expect(isFound()).toBe(false);
      expect(map.replace(1, first)).toBe(false);
      expect(map.add(1, first)).toBe(true);
      expect(map.add(1, second)).toBe(false);
      expect(map.get(1)).toBe(cookieOf(first));
      expect(isFound()).toBe(true);
      expect(map.replace(1, second.fd)).toBe(true);
      expect(map.set(3, first)).toBe(map as never);
      expect([...map].sort()).toEqual([
        [1, cookieOf(second)],
        [3, cookieOf(first)],
      ]);
      expect(map.getMany([3, 0, 1])).toEqual([cookieOf(first), undefined, cookieOf(second)]);
      expect(map.delete(1)).toBe(true);
      expect(map.delete(1)).toBe(false);
      expect(isFound()).toBe(false);
      expect([map.has(1), map.has(3), map.count()]).toEqual([false, true, 1]);
      map.clear();
      expect(map.count()).toBe(0);
    });

    bpfTest(`${name} loses a socket when it is closed`, () => {
      using map = make();
      const socket = listener();
      map.set(1, socket);
      socket[Symbol.dispose]();
      expect(map.get(1)).toBeUndefined();
      expect([...map.keys()]).toEqual([]);
    });

    bpfTest(`${name} rejects other descriptors and sockets, with the cause`, () => {
      using map = make();
      using idle = idleSocket();
      using unix = unixSocket();
      expect(refusalOf(() => map.set(1, map)).hint).toBe("The descriptor is not a socket");
      expect(refusalOf(() => map.add(1, 999_999)).code).toBe("EBADF");
      for (const socket of [idle, unix]) {
        const refusal = refusalOf(() => map.set(1, socket));
        expect(refusal.code).toBe("EOPNOTSUPP");
        expect(refusal.hint).toStartWith("The map takes connected TCP sockets");
      }
      expect(() => map.set(1, -1)).toThrow(/value of .*: expected a socket: a descriptor from 0/);
    });
  }

  bpfTest("accepts connections of node:net and of Bun", async () => {
    using map = new SockMap({ length: 4 });
    const ended = Promise.withResolvers<void>();
    const server = net.createServer((socket) => socket.resume().on("close", ended.resolve));
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const { port } = server.address() as net.AddressInfo;
    const socket = await Bun.connect({ hostname: "127.0.0.1", port, socket: { data() {} } });
    // A server of node:net has its descriptor in its undeclared handle.
    map.set(0, (server as unknown as { readonly _handle: { readonly fd: number } })._handle);
    map.set(1, socket);
    expect([...map.keys()]).toEqual([0, 1]);
    expect(map.get(0)).not.toBe(map.get(1));
    socket.end();
    await ended.promise;
    server.close();
    expect(map.get(0)).toBeUndefined();
  });
});

describe("a hash of sockets", () => {
  const key = t.struct({ ip: t.ipv4, port: t.u32 });
  const keyOf = (port: number) => ({ ip: "127.0.0.1", port });

  bpfTest("takes, stores and deletes many sockets", () => {
    using map = new SockHash({ key, maxEntries: 300 });
    using socket = datagramSocket();
    using other = datagramSocket();
    const cookie = cookieOf(socket);
    expect(map.setMany([...Array(200).keys()].map((port) => [keyOf(port), socket]))).toBe(map);
    expect(map.count()).toBe(200);
    expect(map.take(keyOf(7))).toBe(cookie);
    expect(map.take(keyOf(7))).toBeUndefined();
    expect(map.deleteMany([keyOf(7), keyOf(8), keyOf(9)])).toBe(2);
    map.set(keyOf(10), other);
    const taken = [...map.takeAll()];
    expect(taken).toHaveLength(197);
    expect(taken.find(([{ port }]) => port === 10)?.[1]).toBe(cookieOf(other));
    expect(map.count()).toBe(0);
  });

  bpfTest("reports how many sockets it stored, and the cause of the error", () => {
    using map = new SockHash({ key: t.u32, maxEntries: 2, name: "few" });
    using socket = datagramSocket();
    using idle = idleSocket();
    const pairs = [
      [1, socket],
      [2, idle],
    ] as const;
    const refusal = refusalOf(() => map.setMany(pairs));
    expect(refusal).toBeInstanceOf(BatchError);
    expect((refusal as BatchError).applied).toBe(1);
    expect(refusal.message).toContain(
      'cannot store values in sockhash map "few" (1 of 2 were applied): bpf(BPF_MAP_UPDATE_ELEM): EOPNOTSUPP',
    );
    expect(refusal.hint).toStartWith("The map takes connected TCP sockets");
    map.set(2, socket);
    expect(refusalOf(() => map.set(3, socket)).code).toBe("E2BIG");
  });
});

describe("a map of sockets with values of 4 bytes", () => {
  bpfTest("does not report ENOSPC of a look-up as a full map", () => {
    for (const type of ["sockmap", "sockhash"] as const) {
      using small = smallMap(type);
      using socket = datagramSocket();
      using map =
        type === "sockmap" ? SockMap.fromFd(small.fd) : SockHash.fromFd(small.fd, { key: t.u32 });
      map.set(1, socket);
      using element = new MapElement(small.fd, 4, 4, "small");
      element.setIndex(1);
      const refusal = refusalOf(() => element.lookup(0));
      expect([refusal.code, refusal.hint]).toEqual(["ENOSPC", undefined]);
    }
  });

  bpfTest("stores and deletes sockets, and cannot be read", () => {
    for (const type of ["sockmap", "sockhash", "reuseport_sockarray"] as const) {
      using small = smallMap(type);
      using map =
        type === "sockmap"
          ? SockMap.fromFd(small.fd)
          : type === "sockhash"
            ? SockHash.fromFd(small.fd, { key: t.u32 })
            : ReuseportSockArray.fromFd(small.fd);
      using socket = listener();
      map.set(1, socket);
      const reading = /"small" cannot be read: its values have 4 bytes, and the cookie of a socket/;
      expect(() => map.get(1)).toThrow(reading);
      expect(() => map.has(1)).toThrow(reading);
      expect(() => map.getMany([1])).toThrow(reading);
      expect(() => [...map]).toThrow(reading);
      if (map instanceof SockHash) expect(() => map.take(1)).toThrow(reading);
      expect(map.delete(1)).toBe(true);
      expect(map.delete(1)).toBe(false);
      if (!(map instanceof SockHash)) map.clear();
      // The 4-byte descriptor was written to the right place.
      expect(map.add(1, socket)).toBe(true);
      expect(map.add(1, socket)).toBe(false);
    }
  });
});

describe("an array of sockets that share a port", () => {
  bpfTest("is used by a program that selects a socket for a datagram", async () => {
    using sockets = new ReuseportSockArray({ length: 4 });
    using first = datagramSocket();
    const port = portOf(first);
    using second = datagramSocket({ port });
    sockets.set(0, first).set(3, second);
    expect([...sockets]).toEqual([
      [0, cookieOf(first)],
      [3, cookieOf(second)],
    ]);
    for (const [index, chosen] of [
      [0, first],
      [3, second],
    ] as const) {
      using program = loadProbe("sk_reuseport", [
        stw(fp, -4, index),
        ldMap(r2, sockets),
        mov(r3, fp),
        add(r3, -4),
        mov(r4, 0),
        call("sk_select_reuseport"),
        mov(r0, 1), // SK_PASS
        exit(),
      ]);
      selectBy(program, first);
      const sender = await Bun.udpSocket({});
      for (let count = 0; count < 20; count++) sender.send("x", port, "127.0.0.1");
      sender.close();
      const waiting = (await Bun.file("/proc/net/udp").text())
        .split("\n")
        .map((line) => line.trim().split(/\s+/))
        .filter(([, local]) => local?.endsWith(port.toString(16).toUpperCase().padStart(4, "0")));
      expect(waiting).toHaveLength(2);
      const { ino } = await Bun.file(`/proc/self/fd/${chosen.fd}`).stat();
      for (const fields of waiting) {
        const received = Number.parseInt(fields[4]?.split(":")[1] ?? "", 16);
        // The first socket still has its datagram when the second program selects the second socket.
        if (fields[9] === String(ino) || index === 3) expect(received).toBeGreaterThan(0);
        else expect(received).toBe(0);
      }
    }
  });

  bpfTest("has a socket in only one slot until its deletion or closing", () => {
    using sockets = new ReuseportSockArray({ length: 2 });
    using another = new ReuseportSockArray({ length: 2 });
    using first = listener();
    using second = listener();
    sockets.set(0, first);
    for (const [array, index] of [
      [sockets, 0],
      [sockets, 1],
      [another, 0],
    ] as const) {
      const refusal = refusalOf(() => array.set(index, first));
      expect(refusal.code).toBe("EBUSY");
      expect(refusal.hint).toStartWith("The socket is in such an array already");
    }
    expect(sockets.add(0, second)).toBe(false);
    expect(sockets.replace(1, second)).toBe(false);
    expect(sockets.replace(0, second)).toBe(true);
    expect(another.add(1, first)).toBe(true);
    using others = new SockMap({ length: 1 });
    expect(refusalOf(() => others.set(0, first)).hint).toContain("such as in a ReuseportSockArray");
    expect(sockets.delete(0)).toBe(true);
    expect(sockets.delete(0)).toBe(false);
    first[Symbol.dispose]();
    expect(another.get(1)).toBeUndefined();
  });

  bpfTest("rejects sockets that share no port, with the cause", () => {
    using sockets = new ReuseportSockArray({ length: 1 });
    using idle = idleSocket();
    using alone = listener({ reusePort: false });
    using unix = unixSocket();
    for (const socket of [idle, alone]) {
      const refusal = refusalOf(() => sockets.set(0, socket));
      expect(refusal.code).toBe("EINVAL");
      expect(refusal.hint).toContain("SO_REUSEPORT");
    }
    expect(refusalOf(() => sockets.set(0, unix)).hint).toStartWith(
      "The map takes only TCP and UDP",
    );
    expect(refusalOf(() => sockets.set(0, sockets)).hint).toBe("The descriptor is not a socket");
    expect(() => sockets.set(1, idle)).toThrow(RangeError);
  });
});
