import { expect } from "bun:test";
import { isKernelSince } from "../../src/ffi/kernel.ts";
import { features } from "../../src/index.ts";
import { loopback, PacketPrograms, TestNetwork } from "../support/network.ts";
import { testWith } from "../support/needs.ts";
import { testUnless } from "../support/skipping.ts";
import { wayTest } from "./way.ts";

/** The results of programs: the next one decides, and the packet is passed to the other interface. */
const [next, pass] = [-1, 0];
const netkit = features.attachKinds.get("netkit");

wayTest("netkit", () => {
  using network = new TestNetwork();
  using packets = new PacketPrograms();
  const [index, peerIndex] = network.addNetkit();
  using primary = packets.load("netkit/primary", next, 1);
  using peer = packets.load("netkit/peer", next, 2);
  {
    using first = primary.attach({ interface: index, netns: network });
    using second = peer.attach({ interface: index, netns: network });
    network.sendFrom(index);
    const counted = packets.count(1);
    expect(counted).toBeGreaterThan(0);
    network.sendFrom(peerIndex);
    expect(packets.count(2)).toBeGreaterThan(0);
    expect(first.info()).toMatchObject({
      type: "netkit",
      ifindex: index,
      attachType: "netkit_primary",
    });
    expect(second.info()).toMatchObject({ attachType: "netkit_peer" });
  }
  const before = [packets.count(1), packets.count(2)];
  network.sendFrom(index);
  network.sendFrom(peerIndex);
  expect([packets.count(1), packets.count(2)]).toEqual(before);
});

testUnless(
  isKernelSince("6.7")
    ? "the kernel has netkit devices"
    : features.programTypes.get("sched_cls").reason,
)("netkit devices need Linux 6.7", () => {
  using packets = new PacketPrograms();
  using program = packets.load("tc", next);
  expect(() => program.attachAs("netkit/primary", { interface: "lo" })).toThrow(
    /EINVAL .*netkit devices need Linux 6\.7/,
  );
});

testWith(netkit)("programs of a netkit device run in their order", () => {
  using network = new TestNetwork();
  using packets = new PacketPrograms();
  const [index] = network.addNetkit();
  const at = { interface: index, netns: network } as const;
  using one = packets.load("netkit/primary", next, 1);
  using two = packets.load("netkit/primary", next, 2);
  using three = packets.load("netkit/primary", pass, 3);
  using first = one.attach(at);
  using _second = two.attach({ ...at, before: "all" });
  packets.trail();
  network.sendFrom(index);
  expect(packets.trail()).toBe(21);
  using _third = three.attach({ ...at, before: first });
  network.sendFrom(index);
  expect(packets.trail()).toBe(23);
  expect(() => one.attach(at)).toThrow(/EEXIST .*attached to this hook already/);
});

testWith(netkit)("interfaces of other kinds are refused with the reason", () => {
  using network = new TestNetwork();
  using packets = new PacketPrograms();
  const [, peer] = network.addNetkit();
  using program = packets.load("netkit/primary", next);
  const attach = (target: string | number) => () =>
    program.attach({ interface: target, netns: network });
  expect(attach(loopback)).toThrow(/ENXIO .*interface 1 is not a netkit device/);
  expect(attach(peer)).toThrow(/EACCES .*is the peer of its netkit device/);
  expect(attach(997)).toThrow(/ENODEV .*no interface with the index 997/);
  expect(attach("l0")).toThrow(/ENODEV .*did you mean "lo"\?/);
});
