import { describe, expect } from "bun:test";
import { BpfError, features, Link, Program, asm } from "../../src/index.ts";
import { isKernelSince } from "../../src/ffi/kernel.ts";
import { loopback, PacketPrograms, TestNetwork, vethObstacle } from "../support/network.ts";
import { testWith } from "../support/needs.ts";
import { testUnless } from "../support/skipping.ts";
import { wayTest } from "./way.ts";

const { XDP_DROP, XDP_PASS } = { XDP_DROP: 1, XDP_PASS: 2 };
const link = features.attachKinds.get("xdp");
const netlink = features.attachKinds.get("xdp_netlink");

const vethTest = testUnless(vethObstacle ?? link.reason);

wayTest("xdp", () => {
  using network = new TestNetwork();
  using packets = new PacketPrograms();
  using program = packets.load("xdp", XDP_PASS);
  {
    using attached = program.attach({ interface: "lo", netns: network, method: "link" });
    expect(network.send()).toBe(true);
    expect(packets.count()).toBe(1);
    expect(attached.info()).toMatchObject({ type: "xdp", ifindex: loopback });
    expect(attached.id).toBeGreaterThan(0);
  }
  expect(network.send()).toBe(true);
  expect(packets.count()).toBe(1);
});

wayTest("xdp_netlink", () => {
  using network = new TestNetwork();
  using packets = new PacketPrograms();
  using program = packets.load("xdp", XDP_PASS);
  {
    using attached = program.attach({ interface: "lo", netns: network, method: "netlink" });
    expect(network.send()).toBe(true);
    expect(packets.count()).toBe(1);
    expect(attached.info()).toEqual({
      type: "xdp",
      id: 0,
      programId: program.id,
      ifindex: loopback,
      interfaceName: "lo",
    });
    expect(`${attached}`).toBe("xdp program of lo");
  }
  expect(network.send()).toBe(true);
  expect(packets.count()).toBe(1);
});

describe("a program that is attached by netlink", () => {
  testWith(netlink)("is replaced in one step, if it is the expected one", () => {
    using network = new TestNetwork();
    using packets = new PacketPrograms();
    using first = packets.load("xdp", XDP_PASS, 1);
    using second = packets.load("xdp", XDP_PASS, 2);
    const options = { interface: "lo", netns: network, method: "netlink" } as const;
    using attached = first.attach(options);
    expect(() => attached.update(second, { expected: second })).toThrow(
      /^cannot replace the program of the xdp program of lo: netlink: EPERM .* read link.info\(\).programId$/,
    );
    expect(attached.update(second, { expected: first })).toBe(attached);
    network.send();
    expect(packets.trail()).toBe(2);
    expect(attached.info().programId).toBe(second.id);
    expect(() => first.attach(options)).toThrow(
      `cannot attach an XDP program to lo: netlink: EBUSY (resource busy or locked). lo has an XDP program already: program ${second.id} (mode "generic").`,
    );
    expect(() => first.attach(options)).toThrow(
      /The kernel's message: XDP program already attached$/,
    );
    expect(() => first.attach({ ...options, replace: first })).toThrow(
      /EEXIST .*The kernel's message: Active program does not match expected$/,
    );
    using other = first.attach({ ...options, replace: second });
    network.send();
    expect(packets.trail()).toBe(1);
    // The first attachment has lost its place, and does not detach the program of the other one.
    expect(attached.info()).toMatchObject({ ifindex: undefined });
    expect(() => attached.update(first)).toThrow(/ENOLINK.*not attached any more/);
    attached[Symbol.dispose]();
    network.send();
    expect(packets.trail()).toBe(1);
    using third = second.attach({ ...options, replace: true });
    expect(other.info()).toMatchObject({ ifindex: undefined });
    expect(third.info()).toMatchObject({ ifindex: loopback });
  });

  testWith(netlink)("is detached after its own descriptor was closed", () => {
    using network = new TestNetwork();
    using packets = new PacketPrograms();
    const program = packets.load("xdp", XDP_DROP);
    const attached = program.attach({ interface: loopback, netns: network, method: "netlink" });
    program[Symbol.dispose]();
    expect(network.send()).toBe(false);
    attached.detach();
    expect(network.send()).toBe(true);
    attached[Symbol.dispose]();
  });

  vethTest("is gone with its interface", () => {
    using network = new TestNetwork();
    using packets = new PacketPrograms();
    const index = network.addVeth(10, "blue", "red");
    using program = packets.load("xdp", XDP_PASS);
    using attached = program.attach({ interface: "blue", netns: network, method: "netlink" });
    expect(attached.info()).toMatchObject({ ifindex: index, interfaceName: "blue" });
    network.remove(index);
    expect(attached.info()).toMatchObject({ ifindex: undefined, interfaceName: undefined });
  });
});

describe("the mode", () => {
  vethTest("is that of the driver for an interface whose driver has XDP", () => {
    using network = new TestNetwork();
    using packets = new PacketPrograms();
    network.addVeth(10, "blue", "red");
    using program = packets.load("xdp", XDP_PASS, 1);
    using other = packets.load("xdp", XDP_PASS, 2);
    for (const mode of ["driver", "generic"] as const) {
      for (const method of ["link", "netlink"] as const) {
        using _link = program.attach({ interface: "blue", netns: network, mode, method });
        const second = () =>
          other.attach({ interface: "blue", netns: network, mode, method: "netlink" });
        expect(second).toThrow(`program ${program.id} (mode "${mode}")`);
        expect(second).toThrow(expect.objectContaining({ code: "EBUSY" }));
      }
    }
    expect(() =>
      program.attach({ interface: "lo", netns: network, mode: "driver", method: "link" }),
    ).toThrow(
      'EOPNOTSUPP (operation not supported on socket). The driver of lo does not support XDP: mode: "generic" works with every driver',
    );
    expect(() =>
      program.attach({ interface: "lo", netns: network, mode: "driver", method: "netlink" }),
    ).toThrow(/does not support XDP.*The kernel's message: .*native mode/);
    expect(() => program.attach({ interface: "lo", netns: network, mode: "offload" })).toThrow(
      BpfError,
    );
  });

  vethTest("of one program excludes the other mode", () => {
    using network = new TestNetwork();
    using packets = new PacketPrograms();
    network.addVeth(10, "blue", "red");
    using program = packets.load("xdp", XDP_PASS, 1);
    using _link = program.attach({ interface: "blue", netns: network, mode: "driver" });
    expect(() => program.attach({ interface: "blue", netns: network, mode: "generic" })).toThrow(
      /EEXIST .*not both in "driver" and in "generic"/,
    );
  });
});

vethTest("the reason of a driver is in the error", () => {
  using network = new TestNetwork();
  using packets = new PacketPrograms();
  network.addVeth(10, "blue", "red", 9000);
  using program = packets.load("xdp", XDP_PASS);
  const options = { interface: "blue", netns: network, mode: "driver" } as const;
  expect(() => program.attach({ ...options, method: "netlink" })).toThrow(
    /The kernel's message: .*MTU/i,
  );
  expect(() => program.attach({ ...options, method: "link" })).toThrow(
    /method: "netlink" reports the reason of the driver|does not support XDP/,
  );
});

testUnless(isKernelSince("5.18") ? link.reason : "xdp.frags needs Linux 5.18")(
  "a program for packets in several buffers is attached",
  () => {
    using network = new TestNetwork();
    using packets = new PacketPrograms();
    using program = packets.load("xdp.frags", XDP_PASS);
    for (const method of ["link", "netlink"] as const) {
      using _attached = program.attach({ interface: "lo", netns: network, method });
      const before = packets.count();
      expect(network.send()).toBe(true);
      expect(packets.count()).toBe(before + 1);
    }
  },
);

testWith(link)("a link is updated and detached", () => {
  using network = new TestNetwork();
  using packets = new PacketPrograms();
  using first = packets.load("xdp", XDP_PASS, 1);
  using second = packets.load("xdp", XDP_PASS, 2);
  using attached: Link = first.attach({ interface: "lo", netns: network });
  expect(() => second.attach({ interface: "lo", netns: network })).toThrow(
    `lo has an XDP program already: program ${first.id} (mode "generic")`,
  );
  attached.update(second, { expected: first });
  network.send();
  expect(packets.trail()).toBe(2);
  attached.detach();
  network.send();
  expect(packets.trail()).toBe(0);
});

testWith(features.programTypes.get("xdp"))(
  "wrong options are refused before the kernel sees them",
  () => {
    using program = new Program({
      section: "xdp",
      license: "GPL",
      code: [asm.mov(asm.r0, XDP_PASS), asm.exit()],
    });
    const attach = (options: object) => () => program.attach(options as { interface: string });
    expect(attach({ interface: "lo", mode: "skb" })).toThrow(
      'mode: expected "driver", "generic" or "offload", got "skb"',
    );
    expect(attach({ interface: "lo", method: "ioctl" })).toThrow(TypeError);
    expect(attach({ interface: "lo", replace: true, method: "link" })).toThrow(
      'attach: the option replace needs method: "netlink"',
    );
    expect(attach({ interface: "lo", replace: "any" })).toThrow(TypeError);
    expect(attach({ interfaces: "lo" })).toThrow('did you mean "interface"?');
    expect(attach({})).toThrow(
      "interface: expected the name or the index of a network interface, got undefined",
    );
    expect(attach({ interface: "a/b" })).toThrow(TypeError);
    expect(attach({ interface: "a-name-that-is-too-long" })).toThrow(RangeError);
    expect(attach({ interface: 0 })).toThrow(RangeError);
    expect(attach({ interface: "lo", netns: "" })).toThrow(TypeError);
  },
);

vethTest("an interface or a namespace that does not exist is an error", () => {
  using network = new TestNetwork();
  using packets = new PacketPrograms();
  network.addVeth(10, "blue", "red");
  using program = packets.load("xdp", XDP_PASS);
  expect(() => program.attach({ interface: "blu", netns: network })).toThrow(
    'cannot find the network interface "blu": if_nametoindex: ENODEV (no such device). This network namespace has no interface of that name: did you mean "blue"?',
  );
  for (const method of ["link", "netlink"] as const) {
    expect(() => program.attach({ interface: 999, netns: network, method })).toThrow(
      /This network namespace has no interface with the index 999/,
    );
  }
  const attach = (netns: string | number | { fd: number }) => () =>
    program.attach({ interface: "lo", netns });
  expect(attach("/run/netns/none")).toThrow(
    /^cannot open the network namespace \/run\/netns\/none: open: ENOENT/,
  );
  expect(attach(0x7fff_fffe)).toThrow(/No process has this id/);
  expect(attach("/proc/self/ns/pid")).toThrow(/EINVAL .* The file is not a network namespace/);
  expect(attach({ fd: program.fd })).toThrow(/EINVAL .* The file is not a network namespace/);
});

testWith(netlink)("a namespace is named by a path, a process or a descriptor", () => {
  using network = new TestNetwork();
  using packets = new PacketPrograms();
  using program = packets.load("xdp", XDP_PASS);
  // A child that stays in the namespace.
  const child = network.enter(() => Bun.spawn(["sleep", "60"], { stdout: "ignore" }));
  try {
    for (const netns of [child.pid, `/proc/${child.pid}/ns/net`, { fd: network.fd }]) {
      using _attached = program.attach({ interface: "lo", netns });
      const before = packets.count();
      network.send();
      expect(packets.count()).toBe(before + 1);
    }
  } finally {
    child.kill();
  }
});

testWith(netlink)(
  "replacing by netlink names the program that is attached, or that there is none",
  () => {
    using network = new TestNetwork();
    using packets = new PacketPrograms();
    using first = packets.load("xdp", XDP_PASS, 1);
    using second = packets.load("xdp", XDP_PASS, 2);
    const at = { interface: "lo", netns: network, method: "netlink" } as const;
    const replace = () => second.attach({ ...at, replace: second });
    if (!isKernelSince("5.7")) return;
    expect(replace).toThrow(/EEXIST .*lo has no XDP program, so there is none to replace/);
    using _attached = first.attach(at);
    expect(replace).toThrow(
      `lo has another XDP program than the one to replace: program ${first.id}`,
    );
  },
);

testWith(netlink)("a program that was not loaded for a network card is not offloaded", () => {
  using network = new TestNetwork();
  using packets = new PacketPrograms();
  using program = packets.load("xdp", XDP_PASS);
  for (const method of ["link", "netlink"] as const) {
    if (method === "link" && !link.available) continue;
    expect(() =>
      program.attach({ interface: "lo", netns: network, method, mode: "offload" }),
    ).toThrow(/has no offload, or the program was not loaded for the network card/);
  }
});
