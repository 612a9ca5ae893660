import { expect } from "bun:test";
import { features } from "../../src/index.ts";
import { PacketPrograms, TestNetwork } from "../support/network.ts";
import { testWith } from "../support/needs.ts";
import { wayTest } from "./way.ts";

/** The results of programs: the packet is dropped or accepted. */
const [drop, accept] = [0, 1];
const netfilter = features.attachKinds.get("netfilter");

wayTest("netfilter", () => {
  using network = new TestNetwork();
  using packets = new PacketPrograms();
  using program = packets.load("netfilter", accept, 1);
  using late = packets.load("netfilter", accept, 2);
  {
    const at = { family: "ipv4", netns: network } as const;
    using last = late.attach({ ...at, hook: "local_in", priority: 10 });
    using first = program.attach({ ...at, hook: "local_in", priority: -7 });
    expect(network.send()).toBe(true);
    expect(packets.trail()).toBe(12);
    expect(first.info()).toMatchObject({
      type: "netfilter",
      family: "ipv4",
      hook: "local_in",
      priority: -7,
      flags: 0,
    });
    expect(last.info()).toMatchObject({ priority: 10 });
  }
  expect(network.send()).toBe(true);
  expect(packets.trail()).toBe(0);
});

testWith(netfilter)("programs run at their hooks and can drop packets", () => {
  using network = new TestNetwork();
  using packets = new PacketPrograms();
  const hooks = ["local_out", "post_routing", "pre_routing", "local_in"] as const;
  using stack = new DisposableStack();
  for (const [index, hook] of hooks.entries()) {
    const program = stack.use(packets.load("netfilter", accept, index + 1));
    stack.use(program.attach({ family: "ipv4", hook, netns: network }));
  }
  using dropping = packets.load("netfilter", drop, 5);
  expect(network.send()).toBe(true);
  expect(packets.trail()).toBe(1234);
  using _link = dropping.attach({
    family: "ipv4",
    hook: "pre_routing",
    priority: -1,
    netns: network,
  });
  expect(network.send()).toBe(false);
  expect(packets.trail()).toBe(125);
});

testWith(netfilter)("two programs cannot have the same priority at a hook", () => {
  using network = new TestNetwork();
  using packets = new PacketPrograms();
  using program = packets.load("netfilter", accept);
  const options = { family: "ipv6", hook: "forward", priority: 5, netns: network } as const;
  using _first = program.attach(options);
  expect(() => program.attach(options)).toThrow(
    /^cannot attach to the ipv6 forward hook of netfilter: .*EBUSY .*A program with priority 5 is attached to this hook already/,
  );
});

testWith(netfilter)("packets can be reassembled first", () => {
  using network = new TestNetwork();
  using packets = new PacketPrograms();
  using program = packets.load("netfilter", accept);
  const at = { family: "ipv4", hook: "local_in", defragment: true, netns: network } as const;
  expect(() => program.attach({ ...at, priority: -400 })).toThrow(/Reassembly/);
  try {
    using link = program.attach(at);
    expect(link.info()).toMatchObject({ flags: 1 });
  } catch (error) {
    // Linux 6.4 and 6.5, and kernels without the module for reassembly.
    expect(`${error}`).toMatch(/Reassembly .* needs Linux 6\.6|module nf_defrag_ipv4/);
  }
});

testWith(netfilter)("wrong options of netfilter programs are refused", () => {
  using packets = new PacketPrograms();
  using program = packets.load("netfilter", accept);
  const attach = (options: object) => () =>
    program.attach({ family: "ipv4", hook: "local_in", ...options });
  expect(attach({ family: "ipv5" })).toThrow('family: unknown "ipv5": did you mean "ipv4"?');
  expect(attach({ hook: "ingress" })).toThrow(
    'hook: unknown "ingress": known names: "pre_routing"',
  );
  expect(attach({ hook: "localin" })).toThrow('did you mean "local_in"?');
  expect(attach({ priority: 0x7fff_ffff })).toThrow(RangeError);
  expect(attach({ priority: -0x8000_0000 })).toThrow(RangeError);
  expect(attach({ defragment: 1 })).toThrow(TypeError);
  expect(attach({ family: undefined })).toThrow(TypeError);
});
