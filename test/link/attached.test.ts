import { describe, expect } from "bun:test";
import { isKernelSince } from "../../src/ffi/kernel.ts";
import {
  asm,
  type AttachedPrograms,
  attachedPrograms,
  features,
  Program,
  type SectionName,
  SockMap,
} from "../../src/index.ts";
import { TestCgroup } from "../support/cgroups.ts";
import { loopback, PacketPrograms, TestNetwork } from "../support/network.ts";
import { testWith } from "../support/needs.ts";
import { bpfTest } from "../support/privilege.ts";
import { testUnless } from "../support/skipping.ts";
import { runBun } from "../support/run.ts";

function returning<const S extends SectionName>(section: S, returned: number): Program<S> {
  return new Program({ section, license: "GPL", code: [asm.mov(asm.r0, returned), asm.exit()] });
}

const next = -1;
const pass = 2;
const classic = features.attachKinds.get("tc");
const tcx = features.attachKinds.get("tcx");
const cgroup = features.attachKinds.get("cgroup_skb/egress");
const lookup = features.attachKinds.get("sk_lookup");
const message = features.attachKinds.get("sk_msg");
const netkit = features.attachKinds.get("netkit");
const xdp = features.attachKinds.get("xdp_netlink");

function hookOf(
  network: TestNetwork,
  hook: AttachedPrograms["hook"],
  target: string | number = "lo",
) {
  const found = attachedPrograms({ interface: target, netns: network }).find(
    (one) => one.hook === hook,
  );
  if (found === undefined) throw new Error(`no hook ${hook}`);
  return found;
}

describe("attachedPrograms()", () => {
  testWith(tcx)("has the tcx programs in their order, and the revision", () => {
    using network = new TestNetwork();
    using packets = new PacketPrograms();
    using first = packets.load("tcx/ingress", next, 1);
    using second = packets.load("tcx/ingress", next, 2);
    expect(hookOf(network, "tcx_ingress")).toEqual({
      hook: "tcx_ingress",
      revision: 1n,
      cgroupMode: undefined,
      programs: [],
    });
    const at = { interface: "lo", netns: network } as const;
    using late = first.attach({ ...at, expectedRevision: 1n });
    using early = second.attach({ ...at, before: "all" });
    const attached = hookOf(network, "tcx_ingress");
    const common = { mode: undefined, filter: undefined };
    expect(attached.programs).toEqual([
      { programId: second.id, linkId: early.id, ...common },
      { programId: first.id, linkId: late.id, ...common },
    ]);
    expect(attached.revision).toBeGreaterThan(1n);
    expect(hookOf(network, "tcx_egress").programs).toEqual([]);
  });

  testWith(tcx)("has a revision that refuses an attachment after a change", () => {
    using network = new TestNetwork();
    using packets = new PacketPrograms();
    using first = packets.load("tcx/egress", next, 1);
    using second = packets.load("tcx/egress", next, 2);
    using third = packets.load("tcx/egress", next, 3);
    const at = { interface: "lo", netns: network } as const;
    using _first = first.attach(at);
    const expectedRevision = hookOf(network, "tcx_egress").revision ?? 0n;
    using _second = second.attach({ ...at, expectedRevision });
    const attach = () => third.attach({ ...at, expectedRevision });
    expect(attach).toThrow(/ESTALE.*read them again with attachedPrograms\(\)/);
    expect(attach).toThrow(expect.objectContaining({ code: "ESTALE" }));
    expect(hookOf(network, "tcx_egress").programs).toHaveLength(2);
  });

  testWith(tcx)("has the programs of other processes in their order", async () => {
    using network = new TestNetwork();
    using packets = new PacketPrograms();
    using first = packets.load("tcx/ingress", next, 1);
    using second = packets.load("tcx/ingress", next, 2);
    using _first = first.attach({ interface: "lo", netns: network });
    // The child attaches a program before that of this process, prints what it sees, and waits for its end.
    const code = `
      import { asm, attachedPrograms, Program } from "./src/index.ts";
      const program = new Program({ section: "tcx/ingress", license: "GPL", code: [asm.mov(asm.r0, -1), asm.exit()] });
      const before = attachedPrograms({ interface: "lo" }).find(({ hook }) => hook === "tcx_ingress").programs;
      using link = program.attach({ interface: "lo", before: { programId: before[0].programId } });
      const after = attachedPrograms({ interface: "lo" }).find(({ hook }) => hook === "tcx_ingress").programs;
      console.log(JSON.stringify({ id: program.id, before, after }));
      for await (const _ of Bun.stdin.stream());`;
    const child = network.enter(() =>
      Bun.spawn([process.execPath, "-e", code], { stdin: "pipe", stdout: "pipe" }),
    );
    try {
      const { value } = await child.stdout.getReader().read();
      const seen = JSON.parse(Buffer.from(value ?? []).toString());
      const ids = (programs: readonly { programId: number }[]) =>
        programs.map(({ programId }) => programId);
      expect(ids(seen.before)).toEqual([first.id]);
      expect(ids(seen.after)).toEqual([seen.id, first.id]);
      using _second = second.attach({
        interface: "lo",
        netns: network,
        after: { programId: seen.id },
      });
      expect(ids(hookOf(network, "tcx_ingress").programs)).toEqual([seen.id, second.id, first.id]);
      // The links of a killed process are detached.
      child.kill("SIGKILL");
      await child.exited;
      let rounds = 0;
      while (hookOf(network, "tcx_ingress").programs.length > 2 && rounds++ < 500) {
        await Bun.sleep(10);
      }
      expect(ids(hookOf(network, "tcx_ingress").programs)).toEqual([second.id, first.id]);
    } finally {
      child.kill("SIGKILL");
      await child.exited;
    }
  });

  testWith(classic)("has classic filters in their order", () => {
    using network = new TestNetwork();
    using packets = new PacketPrograms();
    using first = packets.load("tc/ingress", next, 1);
    using second = packets.load("tc/ingress", next, 2);
    const at = { interface: "lo", netns: network, method: "netlink" } as const;
    using _late = first.attach({ ...at, priority: 20, handle: 3 });
    using _early = second.attach({ ...at, priority: 10, handle: 4 });
    const common = { linkId: undefined, mode: undefined };
    const filter = { chain: 0, name: "bun-bpf" };
    expect(hookOf(network, "tc_ingress")).toEqual({
      hook: "tc_ingress",
      revision: undefined,
      cgroupMode: undefined,
      programs: [
        { programId: second.id, ...common, filter: { ...filter, priority: 10, handle: 4 } },
        { programId: first.id, ...common, filter: { ...filter, priority: 20, handle: 3 } },
      ],
    });
    expect(hookOf(network, "tc_egress").programs).toEqual([]);
  });

  testWith(xdp)("has XDP programs with their mode", () => {
    using network = new TestNetwork();
    using packets = new PacketPrograms();
    using program = packets.load("xdp", pass);
    expect(hookOf(network, "xdp").programs).toEqual([]);
    using _attached = program.attach({ interface: "lo", netns: network });
    expect(hookOf(network, "xdp", loopback)).toEqual({
      hook: "xdp",
      revision: undefined,
      cgroupMode: undefined,
      programs: [{ programId: program.id, linkId: undefined, mode: "generic", filter: undefined }],
    });
  });

  testWith(netkit)("has the programs of both sides of a netkit device", () => {
    using network = new TestNetwork();
    using packets = new PacketPrograms();
    const [primary, peer] = network.addNetkit();
    using program = packets.load("netkit/peer", next);
    using link = program.attach({ interface: primary, netns: network });
    expect(hookOf(network, "netkit_peer", primary).programs).toMatchObject([
      { programId: program.id, linkId: link.id },
    ]);
    expect(hookOf(network, "netkit_primary", primary).programs).toEqual([]);
    const hooks = attachedPrograms({ interface: peer, netns: network }).map(({ hook }) => hook);
    expect(hooks).not.toContain("netkit_primary");
  });

  testWith(cgroup)("has all hooks of a cgroup", () => {
    using stack = new DisposableStack();
    const group = stack.use(new TestCgroup());
    const program = stack.use(returning("cgroup_skb/egress", 1));
    stack.use(program.attach({ cgroup: group.path, method: "attach", mode: "override" }));
    const hooks = attachedPrograms({ cgroup: group.path });
    expect(hooks.map(({ hook }) => hook)).toEqual(
      expect.arrayContaining(["cgroup_inet_ingress", "cgroup_inet_egress", "cgroup_device"]),
    );
    expect(new Set(hooks.map(({ hook }) => hook)).size).toBe(hooks.length);
    expect(hooks.filter(({ programs }) => programs.length > 0)).toMatchObject([
      {
        hook: "cgroup_inet_egress",
        cgroupMode: "override",
        programs: [{ programId: program.id, linkId: undefined }],
      },
    ]);
    expect(hooks.find(({ hook }) => hook === "cgroup_device")).toMatchObject({
      cgroupMode: undefined,
    });
  });

  testWith(lookup)("has all hooks of a network namespace", () => {
    using network = new TestNetwork();
    using program = returning("sk_lookup", 1);
    using _link = program.attach({ netns: network });
    const none = { revision: undefined, cgroupMode: undefined };
    const common = { linkId: undefined, mode: undefined, filter: undefined };
    const hooks = attachedPrograms({ netns: network });
    expect(hooks).toHaveLength(2);
    expect(hooks).toContainEqual({ hook: "flow_dissector", ...none, programs: [] });
    expect(hooks).toContainEqual({
      hook: "sk_lookup",
      ...none,
      programs: [{ programId: program.id, ...common }],
    });
  });

  testUnless(isKernelSince("5.18") ? message.reason : "maps of sockets need Linux 5.18")(
    "has all hooks of a map of sockets",
    () => {
      using stack = new DisposableStack();
      const map = stack.use(new SockMap({ length: 1 }));
      const program = stack.use(returning("sk_msg", 1));
      stack.use(program.attach({ map, method: "attach" }));
      const hooks = attachedPrograms({ map });
      expect(hooks.map(({ hook }) => hook).sort()).toEqual([
        "sk_msg_verdict",
        "sk_skb_stream_parser",
        "sk_skb_stream_verdict",
        "sk_skb_verdict",
      ]);
      for (const { hook, programs } of hooks) {
        const ids = programs.map(({ programId }) => programId);
        expect(ids).toEqual(hook === "sk_msg_verdict" ? [program.id] : []);
      }
    },
  );

  bpfTest("needs an interface that exists", () => {
    const query = (options: object) => () => attachedPrograms(options as { interface: string });
    expect(query({})).toThrow(
      "attachedPrograms: expected one of the options interface, cgroup, netns and map, got an object",
    );
    expect(query({ interfaces: 1 })).toThrow('did you mean "interface"?');
    using network = new TestNetwork();
    expect(query({ interface: "l0", netns: network })).toThrow('did you mean "lo"?');
    expect(query({ interface: 996, netns: network })).toThrow(
      /^cannot read the network interface 996: netlink: ENODEV .*no interface with the index 996/,
    );
  });

  testWith(tcx)("needs CAP_NET_ADMIN", async () => {
    const code = `
      import { attachedPrograms } from "./src/index.ts";
      try {
        attachedPrograms({ interface: "lo" });
      } catch (error) {
        console.log(error.code, error.hint);
      }`;
    const { stdout } = await runBun([
      ...["--preload", "./test/support/drop_capabilities.ts"],
      ...["-e", code],
    ]);
    expect(stdout).toStartWith("EPERM This process lacks CAP_NET_ADMIN");
  });
});
