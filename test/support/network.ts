/** @module Network namespaces of tests, with interfaces that are up, and packets through them. */

import { dlopen, type Pointer, ptr } from "bun:ffi";
import { Descriptor } from "../../src/ffi/descriptor.ts";
import { RouteSocket } from "../../src/ffi/netlink.ts";
import {
  inNetworkNamespace,
  inNewNetworkNamespace,
  openNetworkNamespace,
} from "../../src/ffi/namespace.ts";
import { ArrayMap, asm, BpfError, Program, type SectionName, t } from "../../src/index.ts";
import {
  addNetkit,
  interfaceHeader,
  type InterfaceInfo,
  listInterfaces,
} from "../../src/link/route.ts";
import { bpfObstacle } from "./privilege.ts";
import {
  AF_INET,
  AF_PACKET,
  ETH_P_IP,
  IFF_UP,
  IFLA_IFNAME,
  IFLA_INFO_DATA,
  IFLA_INFO_KIND,
  IFLA_LINKINFO,
  IFLA_MTU,
  MSG_DONTWAIT,
  NLM_F_CREATE,
  NLM_F_EXCL,
  RTM_DELLINK,
  RTM_DELQDISC,
  RTM_NEWLINK,
  RTM_NEWQDISC,
  RTM_NEWTFILTER,
  RTM_SETLINK,
  SOCK_CLOEXEC,
  SOCK_DGRAM,
  TC_H_CLSACT,
  TC_H_MIN_INGRESS,
  TCA_BPF_FD,
  TCA_BPF_FLAG_ACT_DIRECT,
  TCA_BPF_FLAGS,
  TCA_BPF_NAME,
  TCA_KIND,
  TCA_OPTIONS,
  VETH_INFO_PEER,
} from "../../src/uapi/network.ts";

/** The functions of libc that the library does not call. Its constructors of C libraries differ by system. */
const libc = dlopen("libc.so.6", {
  socket: { args: ["i32", "i32", "i32"], returns: "i32" },
  bind: { args: ["i32", "ptr", "u32"], returns: "i32" },
  connect: { args: ["i32", "ptr", "u32"], returns: "i32" },
  send: { args: ["i32", "ptr", "u64", "i32"], returns: "i64" },
  recv: { args: ["i32", "ptr", "u64", "i32"], returns: "i64" },
  sendto: { args: ["i32", "ptr", "u64", "i32", "ptr", "u32"], returns: "i64" },
});

/** Milliseconds for which a packet is awaited, at least. */
const maxRounds = 500;

/** The index of the loopback interface. */
export const loopback = 1;

/** A network namespace with a loopback interface that is up. This thread is in it only during {@link TestNetwork.enter}. */
export class TestNetwork implements Disposable {
  readonly #namespace: Descriptor;
  /** A UDP socket whose packets go to itself, through the loopback interface. */
  readonly #socket: Descriptor;

  constructor() {
    [this.#namespace, this.#socket] = inNewNetworkNamespace(() => {
      using route = new RouteSocket();
      setUp(route, loopback);
      return [openNetworkNamespace(), openEcho()] as const;
    });
  }

  /** The descriptor of the namespace. */
  get fd(): number {
    return this.#namespace.fd;
  }

  /** Calls a function in the namespace. */
  enter<Result>(body: () => Result): Result {
    return inNetworkNamespace(this.fd, body);
  }

  /** Sends a packet through the loopback interface, which sends and receives it. Returns false if it does not arrive. */
  send(): boolean {
    const payload = new Uint8Array(8);
    const { fd } = this.#socket;
    // A program can make the call fail.
    if (Number(libc.symbols.send(fd, ptr(payload), payload.length, 0)) < 0) return false;
    for (let round = 0; round < maxRounds; round++) {
      const received = libc.symbols.recv(fd, ptr(payload), payload.length, MSG_DONTWAIT);
      if (Number(received) >= 0) return true;
      Bun.sleepSync(1);
    }
    return false;
  }

  /** Calls a function with a netlink socket of the namespace. */
  route<Result>(body: (route: RouteSocket) => Result): Result {
    return this.enter(() => {
      using route = new RouteSocket();
      return body(route);
    });
  }

  /** Adds a pair of veth interfaces, which are up, and returns the index of the first one. */
  addVeth(index: number, name: string, peer: string, mtu = 1500): number {
    this.route((route) => {
      const peerInfo = Buffer.concat([
        interfaceHeader(index + 1),
        attribute(IFLA_IFNAME, Buffer.from(`${peer}\0`)),
        attribute(IFLA_MTU, uint32(mtu)),
      ]);
      route.request({
        type: RTM_NEWLINK,
        flags: NLM_F_CREATE | NLM_F_EXCL,
        header: interfaceHeader(index),
        attributes: [
          { type: IFLA_IFNAME, value: name },
          { type: IFLA_MTU, value: mtu },
          {
            type: IFLA_LINKINFO,
            value: [
              { type: IFLA_INFO_KIND, value: "veth" },
              { type: IFLA_INFO_DATA, value: [{ type: VETH_INFO_PEER, value: peerInfo }] },
            ],
          },
        ],
        doing: "add a pair of veth interfaces",
      });
      setUp(route, index);
      setUp(route, index + 1);
    });
    return index;
  }

  /** Adds a pair of netkit interfaces, which are up, and returns the indices of the primary one and of its peer. */
  addNetkit(): readonly [primary: number, peer: number] {
    return this.route((route) => {
      const primary = 100;
      addNetkit(route, primary);
      const isPeer = ({ index, kind }: InterfaceInfo) => kind === "netkit" && index !== primary;
      const peer = listInterfaces(route).find(isPeer)?.index;
      if (peer === undefined) throw new Error("a netkit device has no peer");
      setUp(route, primary);
      setUp(route, peer);
      return [primary, peer];
    });
  }

  /** Adds a qdisc with filters to an interface, as other tools do. The kind `ingress` is older than `clsact`. */
  addQdisc(index: number, kind: "clsact" | "ingress"): void {
    this.route((route) =>
      route.request({
        type: RTM_NEWQDISC,
        flags: NLM_F_CREATE | NLM_F_EXCL,
        // TC_H_INGRESS has the same number as TC_H_CLSACT.
        header: trafficHeader(index, qdisc, TC_H_CLSACT, 0),
        attributes: [{ type: TCA_KIND, value: kind }],
        doing: `add a qdisc of the kind ${kind}`,
      }),
    );
  }

  /** Removes the qdisc that has the filters of an interface, and the filters. */
  removeQdisc(index: number): void {
    this.route((route) =>
      route.request({
        type: RTM_DELQDISC,
        header: trafficHeader(index, qdisc, TC_H_CLSACT, 0),
        doing: "remove a qdisc",
      }),
    );
  }

  /**
   * Adds a classic filter for the received packets of an interface, as other tools do.
   *
   * @param protocol the EtherType of the packets
   */
  addFilter(index: number, { fd }: Program, priority: number, protocol: number): void {
    const swapped = ((protocol & 0xff) << 8) | (protocol >> 8);
    const options = [
      { type: TCA_BPF_FD, value: fd },
      { type: TCA_BPF_NAME, value: "of a test" },
      { type: TCA_BPF_FLAGS, value: TCA_BPF_FLAG_ACT_DIRECT },
    ];
    this.route((route) =>
      route.request({
        type: RTM_NEWTFILTER,
        flags: NLM_F_CREATE | NLM_F_EXCL,
        header: trafficHeader(index, 0, qdisc | TC_H_MIN_INGRESS, (priority << 16) | swapped),
        attributes: [
          { type: TCA_KIND, value: "bpf" },
          { type: TCA_OPTIONS, value: options },
        ],
        doing: "add a classic filter",
      }),
    );
  }

  /** Removes an interface. */
  remove(index: number): void {
    this.route((route) =>
      route.request({
        type: RTM_DELLINK,
        header: interfaceHeader(index),
        doing: "remove an interface",
      }),
    );
  }

  /** Sends packets from an interface. */
  sendFrom(index: number, count = 1): void {
    this.enter(() => {
      using socket = new Descriptor(
        check("socket", libc.symbols.socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC, 0)),
        "packet socket of a test",
      );
      // struct sockaddr_ll: family, protocol, index, hardware type, packet type, length and bytes of the address.
      const address = Buffer.alloc(20);
      address.writeUInt16LE(AF_PACKET, 0);
      address.writeUInt16BE(ETH_P_IP, 2);
      address.writeInt32LE(index, 4);
      address.writeUInt8(6, 11);
      address.fill(0xff, 12, 18);
      const packet = new Uint8Array(60);
      packet[0] = 0x45;
      for (let sent = 0; sent < count; sent++) {
        const { fd } = socket;
        check(
          "sendto",
          Number(libc.symbols.sendto(fd, ptr(packet), packet.length, 0, ptr(address), 20)),
        );
      }
    });
  }

  [Symbol.dispose](): void {
    this.#socket[Symbol.dispose]();
    this.#namespace[Symbol.dispose]();
  }
}

/** The reason why there are no veth interfaces, or `undefined`. */
export const vethObstacle: string | undefined = bpfObstacle ?? findObstacle();

function findObstacle(): string | undefined {
  try {
    using network = new TestNetwork();
    network.addVeth(10, "blue", "red");
    return undefined;
  } catch (error) {
    if (error instanceof BpfError) return error.message;
    throw error;
  }
}

/** Brings an interface up. */
function setUp(route: RouteSocket, index: number): void {
  const header = interfaceHeader(index, IFF_UP);
  route.request({ type: RTM_SETLINK, header, doing: "bring an interface up" });
}

/** Opens a UDP socket that is bound and connected to the same address, so that no ICMP errors are sent. */
function openEcho(): Descriptor {
  const socket = new Descriptor(
    check("socket", libc.symbols.socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)),
    "UDP socket of a test",
  );
  // struct sockaddr_in: family, port, address.
  const address = Buffer.alloc(16);
  address.writeUInt16LE(AF_INET, 0);
  address.writeUInt16BE(7, 2);
  address.set([127, 0, 0, 1], 4);
  check("bind", libc.symbols.bind(socket.fd, ptr(address) as Pointer, 16));
  check("connect", libc.symbols.connect(socket.fd, ptr(address) as Pointer, 16));
  return socket;
}

function check(call: string, result: number): number {
  if (result < 0) throw new Error(`${call} failed in a test`);
  return result;
}

/** The handle of a qdisc that has filters. */
const qdisc = TC_H_CLSACT & 0xffff_0000;

/** Returns a `struct tcmsg`: family, padding, index, handle, parent, info. */
function trafficHeader(index: number, handle: number, parent: number, info: number): Buffer {
  const header = Buffer.alloc(20);
  [index, handle, parent, info].forEach((value, at) => header.writeInt32LE(value | 0, 4 + 4 * at));
  return header;
}

function attribute(type: number, value: Buffer): Buffer {
  const padded = Buffer.alloc(4 + Math.ceil(value.length / 4) * 4);
  padded.writeUInt16LE(4 + value.length, 0);
  padded.writeUInt16LE(type, 2);
  padded.set(value, 4);
  return padded;
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

/** Programs that count packets, and leave a trail of digits in the order in which they run. */
export class PacketPrograms implements Disposable {
  readonly #map = new ArrayMap({ value: t.array(t.u64Number, 10), length: 1, name: "packets" });

  /**
   * Loads a program.
   *
   * @param digit the program's digit in the trail, from 1 to 9
   */
  load<const S extends SectionName>(section: S, returned: number, digit = 1): Program<S> {
    const { r0, r1, r2 } = asm;
    return new Program({
      section,
      license: "GPL",
      name: `packets_${digit}`,
      maps: { packets: this.#map },
      code: [
        asm.ldMapValue(r1, "packets", 0),
        asm.ldxdw(r2, r1, 0),
        asm.mul(r2, 10),
        asm.add(r2, digit),
        asm.stxdw(r1, 0, r2),
        asm.mov(r2, 1),
        asm.atomicAdd(r1, digit * 8, r2),
        asm.mov(r0, returned),
        asm.exit(),
      ],
    });
  }

  /** Returns how often the program with a digit has run. */
  count(digit = 1): number {
    return this.#map.at(0)?.[digit] ?? 0;
  }

  /** Returns the digits of the programs that have run since the last call, in order; 0 for none. */
  trail(): number {
    const numbers = this.#map.at(0) ?? [];
    this.#map.set(0, [0, ...numbers.slice(1)]);
    return numbers[0] ?? 0;
  }

  [Symbol.dispose](): void {
    this.#map[Symbol.dispose]();
  }
}
