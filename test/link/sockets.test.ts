import { describe, expect } from "bun:test";
import { duplicate, Descriptor } from "../../src/ffi/descriptor.ts";
import { isKernelSince } from "../../src/ffi/kernel.ts";
import { asm, DisposedError, features, type Link, Program } from "../../src/index.ts";
import {
  connectTo,
  datagramSocket,
  listener,
  portOf,
  receivedBy,
  sendOver,
  setOption,
} from "../maps/sockets.ts";
import { bpfObstacle } from "../support/privilege.ts";
import { testWith } from "../support/needs.ts";
import { testUnless } from "../support/skipping.ts";
import { RunCounter } from "./counter.ts";
import { wayTest } from "./way.ts";

const socketTest = testWith(features.attachKinds.get("socket"));
const groupTest = testWith(features.attachKinds.get("sk_reuseport"));

/** Two UDP sockets: the first one sends to the second one. */
class Datagrams implements Disposable {
  readonly receiver = datagramSocket();
  readonly #sender = datagramSocket();

  constructor() {
    connectTo(this.#sender, portOf(this.receiver));
  }

  /** Sends a datagram. Returns the number of bytes that arrive; `undefined` if it was dropped. */
  exchange(): number | undefined {
    // The loopback interface delivers a packet before send(2) returns.
    sendOver(this.#sender);
    return receivedBy(this.receiver);
  }

  [Symbol.dispose](): void {
    this.#sender[Symbol.dispose]();
    this.receiver[Symbol.dispose]();
  }
}

wayTest("socket", () => {
  using datagrams = new Datagrams();
  using counter = new RunCounter();
  // The filter keeps the UDP header of 8 bytes and 2 bytes of the data.
  using program = counter.program("socket", 10);
  using link = program.attach({ socket: datagrams.receiver });
  expect(datagrams.exchange()).toBe(2);
  expect(counter.runs).toBe(1);
  expect(link.info()).toMatchObject({ id: 0, type: "socket", programId: program.id });
  link[Symbol.dispose]();
  expect(datagrams.exchange()).toBe(4);
  expect(counter.runs).toBe(1);
});

wayTest("sk_reuseport", () => expectSelection("sk_reuseport"));

testUnless(
  bpfObstacle ?? (isKernelSince("5.14") ? undefined : "sk_reuseport/migrate needs Linux 5.14"),
)("a program of the section sk_reuseport/migrate runs for each packet to the group", () =>
  expectSelection("sk_reuseport/migrate"),
);

function expectSelection(section: "sk_reuseport" | "sk_reuseport/migrate"): void {
  using datagrams = new Datagrams();
  using other = datagramSocket({ port: portOf(datagrams.receiver) });
  const exchange = () => datagrams.exchange() ?? receivedBy(other);
  using counter = new RunCounter();
  const pass = 1;
  using program = counter.program(section, pass);
  using link = program.attach({ socket: datagrams.receiver });
  expect(exchange()).toBe(4);
  expect(counter.runs).toBe(1);
  expect(link.info()).toMatchObject({ id: 0, type: "sk_reuseport", programId: program.id });
  link[Symbol.dispose]();
  expect(exchange()).toBe(4);
  expect(counter.runs).toBe(1);
}

function filter(length: number): Program<"socket"> {
  return new Program({
    section: "socket",
    license: "GPL",
    code: [asm.mov(asm.r0, length), asm.exit()],
  });
}

describe("a socket filter", () => {
  socketTest("replaces the previous one, whose disposal does not remove it", () => {
    using datagrams = new Datagrams();
    using one = filter(9);
    using two = filter(10);
    using first = one.attach({ socket: datagrams.receiver });
    expect(datagrams.exchange()).toBe(1);
    using second = two.attach({ socket: datagrams.receiver });
    expect(datagrams.exchange()).toBe(2);
    first[Symbol.dispose]();
    expect(datagrams.exchange()).toBe(2);
    second.detach();
    expect(datagrams.exchange()).toBe(4);
    second.detach();
  });

  socketTest("can be updated, if it is the expected one", () => {
    using datagrams = new Datagrams();
    using one = filter(9);
    using two = filter(10);
    using link = one.attach({ socket: datagrams.receiver });
    expect(() => link.update(two, { expected: two })).toThrow(
      /setsockopt\(SO_ATTACH_BPF\): EPERM .*another program than the expected one/,
    );
    expect(datagrams.exchange()).toBe(1);
    expect(link.update(two, { expected: one })).toBe(link);
    expect(datagrams.exchange()).toBe(2);
    expect(link.info().programId).toBe(two.id);
  });

  socketTest("does not replace the one of another attachment", () => {
    using datagrams = new Datagrams();
    using one = filter(9);
    using two = filter(10);
    using first = one.attach({ socket: datagrams.receiver });
    using second = two.attach({ socket: datagrams.receiver });
    expect(() => first.update(one)).toThrow(
      /SO_ATTACH_BPF\): ENOENT\b.*Another attachment has replaced the program of the socket/,
    );
    expect(datagrams.exchange()).toBe(2);
    second.update(one);
    expect(datagrams.exchange()).toBe(1);
  });

  socketTest("cannot be updated after it was detached", () => {
    using datagrams = new Datagrams();
    using one = filter(9);
    using two = filter(10);
    using link = one.attach({ socket: datagrams.receiver });
    link.detach();
    expect(() => link.update(two)).toThrow(/ENOLINK\b.*The program was detached: attach it again/);
    expect(datagrams.exchange()).toBe(4);
  });

  socketTest("stays after disposal of the program and of the caller's descriptor", () => {
    using datagrams = new Datagrams();
    let link: Link;
    {
      using program = filter(9);
      using copy = new Descriptor(duplicate(datagrams.receiver.fd, "socket"), "socket");
      link = program.attach({ socket: copy });
    }
    using _link = link;
    expect(datagrams.exchange()).toBe(1);
    link[Symbol.dispose]();
    expect(datagrams.exchange()).toBe(4);
    expect(() => link.detach()).toThrow(DisposedError);
  });

  socketTest("has neither an id nor pins", () => {
    using datagrams = new Datagrams();
    using program = filter(9);
    using link = program.attach({ socket: datagrams.receiver });
    expect(() => link.id).toThrow(/EOPNOTSUPP .*attached without a link of the kernel/);
    expect(() => link.pin("/sys/fs/bpf/x")).toThrow("EOPNOTSUPP");
  });

  socketTest("is refused with a hint", () => {
    using program = filter(9);
    using datagrams = new Datagrams();
    // @ts-expect-error: wrong on purpose
    expect(() => program.attach({})).toThrow('expected a socket as option "socket"');
    expect(() => program.attach({ socket: program })).toThrow(
      /cannot attach the socket filter .*SO_ATTACH_BPF\): ENOTSOCK .*The descriptor is not a socket/,
    );
    expect(() => program.attach({ socket: 1023 })).toThrow("EBADF");
    const SO_LOCK_FILTER = 44;
    using link = program.attach({ socket: datagrams.receiver });
    setOption(datagrams.receiver.fd, SO_LOCK_FILTER, 1);
    expect(() => program.attach({ socket: datagrams.receiver })).toThrow(
      /EPERM .*The filter of the socket is locked/,
    );
    expect(() => link.detach()).toThrow(
      /SO_DETACH_BPF\): EPERM .*The filter of the socket is locked/,
    );
    expect(() => link[Symbol.dispose]()).toThrow("The filter of the socket is locked");
    expect(link.disposed).toBe(true);
  });
});

groupTest(
  "a program for groups of sockets needs a socket that shares its port, and replaces no later one",
  () => {
    using counter = new RunCounter();
    using program = counter.program("sk_reuseport", 1);
    using alone = datagramSocket({ reusePort: false });
    expect(() => program.attach({ socket: alone })).toThrow(
      /SO_ATTACH_REUSEPORT_EBPF\): EINVAL .*set SO_REUSEPORT before it is bound/,
    );
    using shared = listener();
    using link = program.attach({ socket: shared });
    using latest = program.attach({ socket: shared });
    expect(() => link.update(program)).toThrow(/SO_ATTACH_REUSEPORT_EBPF\): ENOENT\b/);
    latest.update(program);
  },
);
