import { describe, expect, spyOn } from "bun:test";
import { RouteSocket } from "../../src/ffi/netlink.ts";
import { asm, features, type Link, Program, type TcLinkInfo } from "../../src/index.ts";
import { detachWithoutLink } from "../../src/link/detach.ts";
import { tc } from "../../src/link/tc.ts";
import { listFilters, qdiscKind, removeFilter } from "../../src/link/tc_filter.ts";
import { parseSection } from "../../src/program/sections.ts";
import { ETH_P_ALL, ETH_P_IP, RTM_NEWTFILTER } from "../../src/uapi/network.ts";
import { loopback, PacketPrograms, TestNetwork, vethObstacle } from "../support/network.ts";
import { testWith } from "../support/needs.ts";
import { runBun } from "../support/run.ts";
import { testUnless } from "../support/skipping.ts";
import { wayTest } from "./way.ts";

/** The results of classifiers: the next program decides, and the packet is accepted or dropped. */
const [next, ok, shot] = [-1, 0, 2];
const classic = features.attachKinds.get("tc");
const tcx = features.attachKinds.get("tcx");

wayTest("tcx", () => {
  using network = new TestNetwork();
  using packets = new PacketPrograms();
  using ingress = packets.load("tcx/ingress", next, 1);
  using egress = packets.load("tc/egress", next, 2);
  {
    using first = ingress.attach({ interface: "lo", netns: network, method: "tcx" });
    using second = egress.attach({ interface: loopback, netns: network });
    expect(network.send()).toBe(true);
    expect(packets.trail()).toBe(21);
    const common = { type: "tcx", ifindex: loopback };
    expect(first.info()).toMatchObject({ ...common, attachType: "tcx_ingress" });
    expect(second.info()).toMatchObject({ ...common, attachType: "tcx_egress" });
    expect(`${first}`).toBe("tcx link to lo (tcx_ingress)");
  }
  expect(network.send()).toBe(true);
  expect(packets.trail()).toBe(0);
});

wayTest("tc", () => {
  using network = new TestNetwork();
  using packets = new PacketPrograms();
  using program = packets.load("tc", next, 1);
  using egress = packets.load("tc/egress", next, 2);
  {
    using first = program.attach({
      interface: "lo",
      netns: network,
      direction: "ingress",
      method: "netlink",
    });
    using second = egress.attach({ interface: "lo", netns: network, method: "netlink" });
    expect(network.send()).toBe(true);
    expect(packets.trail()).toBe(21);
    expect(first.info()).toMatchObject({
      type: "tc",
      id: 0,
      programId: program.id,
      ifindex: loopback,
      interfaceName: "lo",
      direction: "ingress",
      priority: 1,
      chain: 0,
    });
    expect(second.info()).toMatchObject({ type: "tc", direction: "egress" });
    expect(network.route((route) => qdiscKind(route, loopback))).toBe("clsact");
  }
  expect(network.send()).toBe(true);
  expect(packets.trail()).toBe(0);
  expect(network.route((route) => qdiscKind(route, loopback))).toBeUndefined();
});

testUnless(tcx.available ? "this kernel has tcx" : classic.reason)(
  "a program is attached as a classic filter where the kernel lacks tcx",
  () => {
    using network = new TestNetwork();
    using packets = new PacketPrograms();
    using first = packets.load("tcx/ingress", next, 1);
    using second = packets.load("tc/ingress", next, 2);
    using filter = first.attach({ interface: "lo", netns: network });
    using _last = second.attach({ interface: "lo", netns: network });
    network.send();
    // The order is the same as with tcx.
    expect(packets.trail()).toBe(12);
    expect(filter.info().type).toBe("tc");
    const refused = () => first.attach({ interface: "lo", netns: network, before: second });
    expect(refused).toThrow(/tcx needs Linux 6.6: method: "netlink" attaches a classic filter/);
    expect(refused).toThrow(expect.objectContaining({ code: "EINVAL" }));
  },
);

describe("the position of a tcx program", () => {
  testWith(tcx)("is first, last, before or after a program or a link", () => {
    using network = new TestNetwork();
    using packets = new PacketPrograms();
    using stack = new DisposableStack();
    const load = (digit: number) => stack.use(packets.load("tcx/ingress", next, digit));
    const at = { interface: "lo", netns: network } as const;
    const trail = () => {
      network.send();
      return packets.trail();
    };
    const [one, two] = [load(1), load(2)];
    const first = stack.use(one.attach(at));
    stack.use(two.attach(at));
    expect(trail()).toBe(12);
    stack.use(load(3).attach({ ...at, before: "all" }));
    expect(trail()).toBe(312);
    stack.use(load(4).attach({ ...at, before: two }));
    expect(trail()).toBe(3142);
    stack.use(load(5).attach({ ...at, after: first }));
    expect(trail()).toBe(31542);
    stack.use(load(6).attach({ ...at, after: { programId: one.id } }));
    expect(trail()).toBe(316542);
    stack.use(load(7).attach({ ...at, before: { linkId: first.id } }));
    expect(trail()).toBe(3716542);
    stack.use(load(8).attach({ ...at, after: "all" }));
    expect(trail()).toBe(37165428);
    using accepting = packets.load("tcx/ingress", ok, 9);
    // The programs after one that accepts the packet do not run.
    stack.use(accepting.attach({ ...at, before: first }));
    expect(trail()).toBe(379);
  });

  testWith(tcx)("is refused with the reason", () => {
    using network = new TestNetwork();
    using packets = new PacketPrograms();
    using program = packets.load("tcx/ingress", next, 1);
    using other = packets.load("tcx/ingress", next, 2);
    const at = { interface: "lo", netns: network } as const;
    using attached = program.attach(at);
    expect(() => program.attach(at)).toThrow(/EEXIST .*attached to this hook already/);
    expect(() => other.attach({ ...at, before: other })).toThrow(
      /ENOENT .*before or after is not attached/,
    );
    expect(() => other.attach({ ...at, after: { programId: 0x7fff_ffff } })).toThrow(/ENOENT/);
    expect(() => other.attach({ ...at, before: program, after: program })).toThrow(TypeError);
    expect(() => other.attach({ ...at, before: "first" as "all" })).toThrow(
      'before: expected a program, a link, { programId }, { linkId } or "all", got "first"',
    );
    expect(() => other.attach({ ...at, after: { linkId: 0 } })).toThrow(TypeError);
    expect(() => other.attach({ ...at, expectedRevision: 1 as unknown as bigint })).toThrow(
      TypeError,
    );
    using xdp = new Program({
      section: "xdp",
      license: "GPL",
      code: [asm.mov(asm.r0, 2), asm.exit()],
    });
    expect(() => other.attach({ ...at, before: xdp })).toThrow(/EINVAL .*is not a classifier/);
    expect(attached.info()).toMatchObject({ programId: program.id });
  });
});

testWith(tcx)("a tcx program is replaced in one step, in its position", () => {
  using network = new TestNetwork();
  using packets = new PacketPrograms();
  using first = packets.load("tcx/ingress", next, 1);
  using second = packets.load("tcx/ingress", next, 2);
  using third = packets.load("tcx/ingress", next, 3);
  using link = first.attach({ interface: "lo", netns: network });
  using _last = second.attach({ interface: "lo", netns: network });
  link.update(third, { expected: first });
  network.send();
  expect(packets.trail()).toBe(32);
  link.detach();
  network.send();
  expect(packets.trail()).toBe(2);
});

describe("a classic filter", () => {
  testWith(classic)("has a priority, a handle and a chain", () => {
    using network = new TestNetwork();
    using packets = new PacketPrograms();
    using first = packets.load("tc/ingress", next, 1);
    using second = packets.load("tc/ingress", next, 2);
    using third = packets.load("tc/ingress", next, 3);
    const at = { interface: "lo", netns: network, method: "netlink" } as const;
    using late = first.attach({ ...at, priority: 200, handle: 7 });
    using _early = second.attach({ ...at, priority: 100 });
    network.send();
    expect(packets.trail()).toBe(21);
    expect(late.info()).toMatchObject({ priority: 200, handle: 7 });
    expect(() => third.attach({ ...at, priority: 200, handle: 7 })).toThrow(
      /EEXIST .*A filter with priority 200 and handle 7 exists already.*The kernel's message: Filter already exists/,
    );
    using replaced = third.attach({ ...at, priority: 200, handle: 7, replace: true });
    network.send();
    expect(packets.trail()).toBe(23);
    // The first attachment has lost its filter, and does not detach the program of the other one.
    expect(late.info()).toMatchObject({ ifindex: undefined });
    expect(() => late.update(first)).toThrow(/ENOENT .*another process has replaced its program/);
    late.detach();
    network.send();
    expect(packets.trail()).toBe(23);
    using chained = first.attach({ ...at, chain: 5 });
    expect(chained.info()).toMatchObject({ chain: 5, priority: 1, ifindex: loopback });
    network.send();
    // No filter jumps to the chain.
    expect(packets.trail()).toBe(23);
    expect(replaced.info()).toMatchObject({ programId: third.id });
  });

  testWith(classic)("is replaced in one step, if it has the expected program", () => {
    using network = new TestNetwork();
    using packets = new PacketPrograms();
    using first = packets.load("tc/ingress", next, 1);
    using second = packets.load("tc/ingress", shot, 2);
    using filter = first.attach({ interface: "lo", netns: network, method: "netlink" });
    expect(() => filter.update(second, { expected: second })).toThrow(/EPERM/);
    filter.update(second, { expected: first });
    expect(network.send()).toBe(false);
    expect(packets.trail()).toBe(2);
    expect(filter.info()).toMatchObject({ programId: second.id, ifindex: loopback });
    filter[Symbol.dispose]();
    expect(network.send()).toBe(true);
  });

  testWith(classic)("leaves a qdisc that was there, or has other filters", () => {
    using network = new TestNetwork();
    using packets = new PacketPrograms();
    using program = packets.load("tc/ingress", next, 1);
    using other = packets.load("tc/egress", next, 2);
    const at = { interface: "lo", netns: network, method: "netlink" } as const;
    const kind = () => network.route((route) => qdiscKind(route, loopback));
    const first = program.attach(at);
    const second = other.attach(at);
    first[Symbol.dispose]();
    expect(kind()).toBe("clsact");
    second[Symbol.dispose]();
    expect(kind()).toBeUndefined();
  });

  testWith(classic)("leaves a qdisc that another tool has added in place of its own", () => {
    using network = new TestNetwork();
    using packets = new PacketPrograms();
    using program = packets.load("tc/ingress", next, 1);
    using other = packets.load("tc/ingress", next, 2);
    const at = { interface: "lo", netns: network, method: "netlink" } as const;
    const kind = () => network.route((route) => qdiscKind(route, loopback));
    const first = program.attach(at);
    network.addFilter(loopback, other, 9, ETH_P_ALL);
    first[Symbol.dispose]();
    expect(kind()).toBe("clsact");
    network.removeQdisc(loopback);
    network.addQdisc(loopback, "clsact");
    program.attach(at)[Symbol.dispose]();
    expect(kind()).toBe("clsact");
  });

  testWith(classic)("is found if the kernel acknowledges it without an echo", () => {
    using network = new TestNetwork();
    using packets = new PacketPrograms();
    using program = packets.load("tc/ingress", next, 1);
    const at = { interface: "lo", netns: network, method: "netlink", priority: 3 } as const;
    using older = program.attach(at);
    {
      const { request } = RouteSocket.prototype;
      using spy = spyOn(RouteSocket.prototype, "request");
      spy.mockImplementation(function (this: RouteSocket, sent) {
        const messages = request.call(this, sent);
        return sent.type === RTM_NEWTFILTER ? [] : messages;
      });
      using newer = program.attach(at);
      const handleOf = (filter: Link) => (filter.info() as TcLinkInfo).handle;
      expect(handleOf(newer)).toBeGreaterThan(handleOf(older));
      expect(newer.info()).toMatchObject({ ifindex: loopback, priority: 3 });
    }
    expect(older.info()).toMatchObject({ ifindex: loopback });
    const filters = network.route((route) => listFilters(route, loopback, "ingress"));
    expect(filters).toHaveLength(1);
  });

  testWith(classic)("removes the qdisc that was added last", () => {
    using network = new TestNetwork();
    using packets = new PacketPrograms();
    using program = packets.load("tc/ingress", next, 1);
    const at = { interface: "lo", netns: network, method: "netlink" } as const;
    const kind = () => network.route((route) => qdiscKind(route, loopback));
    const first = program.attach(at);
    network.removeQdisc(loopback);
    const second = program.attach(at);
    const third = program.attach(at);
    first[Symbol.dispose]();
    second[Symbol.dispose]();
    network.send();
    expect(packets.trail()).toBe(1);
    third[Symbol.dispose]();
    expect(kind()).toBeUndefined();
  });

  testWith(classic)("of another tool, for one protocol, is listed and removed", () => {
    using network = new TestNetwork();
    using packets = new PacketPrograms();
    using program = packets.load("tc/ingress", next, 1);
    network.addQdisc(loopback, "clsact");
    network.addFilter(loopback, program, 5, ETH_P_IP);
    network.send();
    expect(packets.trail()).toBe(1);
    const list = () => network.route((route) => listFilters(route, loopback, "ingress"));
    expect(list()).toMatchObject([{ priority: 5, programId: program.id }]);
    const at = { interface: "lo", netns: network };
    detachWithoutLink(parseSection("tc/ingress"), program, at);
    expect(list()).toEqual([]);
  });

  testWith(classic)("leaves no qdisc if another process has removed it", () => {
    using network = new TestNetwork();
    using packets = new PacketPrograms();
    using program = packets.load("tc/ingress", next, 1);
    const attached = program.attach({ interface: "lo", netns: network, method: "netlink" });
    network.route((route) => {
      for (const filter of listFilters(route, loopback, "ingress")) removeFilter(route, filter);
    });
    expect(attached.info()).toMatchObject({ ifindex: undefined });
    attached[Symbol.dispose]();
    expect(network.route((route) => qdiscKind(route, loopback))).toBeUndefined();
  });

  testWith(classic)("that is refused leaves no qdisc", () => {
    using network = new TestNetwork();
    using packets = new PacketPrograms();
    using program = packets.load("xdp", shot);
    const attach = () =>
      tc.attach({
        program,
        attachType: "tcx_ingress",
        target: undefined,
        options: { interface: "lo", netns: network, method: "netlink" },
      });
    expect(attach).toThrow(/^cannot attach a classifier to the ingress of lo: netlink: EINVAL/);
    expect(network.route((route) => qdiscKind(route, loopback))).toBeUndefined();
  });

  testWith(classic)("is refused at the egress of an interface with an ingress qdisc", () => {
    using network = new TestNetwork();
    using packets = new PacketPrograms();
    network.addQdisc(loopback, "ingress");
    using sent = packets.load("tc/egress", next, 1);
    using received = packets.load("tc/ingress", next, 2);
    const at = { interface: "lo", netns: network, method: "netlink" } as const;
    expect(() => sent.attach(at)).toThrow(
      /EOPNOTSUPP .*has an ingress qdisc, which runs no filters at egress/,
    );
    {
      using _filter = received.attach(at);
      network.send();
      expect(packets.trail()).toBe(2);
    }
    expect(network.route((route) => qdiscKind(route, loopback))).toBe("ingress");
  });

  testUnless(vethObstacle ?? classic.reason)("is gone with its interface", () => {
    using network = new TestNetwork();
    using packets = new PacketPrograms();
    const index = network.addVeth(10, "blue", "red");
    using program = packets.load("tc/egress", next);
    using attached = program.attach({ interface: index, netns: network, method: "netlink" });
    network.sendFrom(index);
    expect(packets.count()).toBeGreaterThan(0);
    network.remove(index);
    expect(attached.info()).toMatchObject({ ifindex: undefined, interfaceName: undefined });
    expect(network.route((route) => listFilters(route, index, "egress"))).toEqual([]);
    expect(() => attached.update(program)).toThrow(/ENOENT .*does not exist any more/);
  });

  testWith(classic)("stays after its process is killed", async () => {
    using network = new TestNetwork();
    const code = `
      import { asm, Program } from "./src/index.ts";
      const program = new Program({ section: "tc/ingress", name: "left", license: "GPL", code: [asm.mov(asm.r0, -1), asm.exit()] });
      program.attach({ interface: "lo", method: "netlink" });
      process.kill(process.pid, "SIGKILL");`;
    const child = network.enter(() => runBun(["-e", code]));
    expect((await child).signalCode).toBe("SIGKILL");
    const filters = network.route((route) => listFilters(route, loopback, "ingress"));
    expect(filters).toMatchObject([{ name: "bun-bpf", priority: 1, direction: "ingress" }]);
  });
});

testWith(features.programTypes.get("sched_cls"))("wrong options of classifiers are refused", () => {
  using program = new Program({
    section: "tc",
    license: "GPL",
    code: [asm.mov(asm.r0, 0), asm.exit()],
  });
  const attach = (options: object) => () =>
    program.attach({ interface: "lo", direction: "ingress", ...options });
  expect(attach({ direction: "in" })).toThrow(
    'direction: expected "ingress" or "egress", got "in"',
  );
  expect(attach({ method: "tc" })).toThrow('method: expected "tcx" or "netlink", got "tc"');
  expect(attach({ method: "tcx", priority: 1 })).toThrow(
    'attach: the option priority needs method: "netlink"',
  );
  expect(attach({ method: "netlink", before: "all" })).toThrow(
    'attach: the option before needs method: "tcx"',
  );
  expect(attach({ method: "netlink", priority: 0 })).toThrow(RangeError);
  expect(attach({ method: "netlink", replace: true })).toThrow(/priority and handle/);
  for (const method of ["tcx", "netlink"]) {
    expect(attach({ method, interface: "loo" })).toThrow(/ENODEV .*did you mean "lo"\?/);
  }
  expect(attach({ method: "netlink", interface: 998 })).toThrow(
    /no interface with the index 998|ENODEV/,
  );
});
