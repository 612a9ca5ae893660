/** Tests of `bun-bpf net`. */
import { describe, expect, setDefaultTimeout } from "bun:test";
import { createLink } from "../../src/ffi/bpf_link.ts";
import { Descriptor } from "../../src/ffi/descriptor.ts";
import { features } from "../../src/index.ts";
import { loopback, PacketPrograms, TestNetwork } from "../support/network.ts";
import { testWith } from "../support/needs.ts";
import { bpfTest } from "../support/privilege.ts";
import { cli, cliJson, cliText, commandTimeout } from "./run_cli.ts";

setDefaultTimeout(commandTimeout);

const next = -1;
const pass = 2;
const xdp = features.attachKinds.get("xdp");
const tc = features.attachKinds.get("tc");
const tcx = features.attachKinds.get("tcx");
const netfilter = features.attachKinds.get("netfilter");

interface Shown {
  readonly hook: string;
  readonly programId: number;
}

describe("bun-bpf net", () => {
  testWith(xdp, tc)("lists XDP programs and classic filters", async () => {
    using network = new TestNetwork();
    using packets = new PacketPrograms();
    using received = packets.load("xdp", pass, 1);
    using sent = packets.load("tc/egress", next, 2);
    using _link = received.attach({ interface: "lo", netns: network });
    using _filter = sent.attach({
      interface: "lo",
      netns: network,
      method: "netlink",
      priority: 5,
      handle: 16,
    });
    const [first, ...lines] = (await network.enter(() => cliText(["net"]))).split("\n");
    expect(first).toMatch(/^INTERFACE +HOOK +PROGRAM +LINK +DETAILS$/);
    expect(lines[0]).toMatch(new RegExp(`^lo \\(1\\) +xdp +${received.id} packets_1 +- +generic$`));
    expect(lines[1]).toMatch(
      new RegExp(
        `^lo \\(1\\) +tc_egress +${sent.id} packets_2 +- +bun-bpf, priority 5, handle 0x10$`,
      ),
    );
    const shown = await network.enter(() => cliJson<Shown[]>(["net"]));
    expect(shown.slice(0, 2)).toEqual([
      {
        hook: "xdp",
        programId: received.id,
        programName: "packets_1",
        mode: "generic",
        ifindex: loopback,
        interface: "lo",
      },
      {
        hook: "tc_egress",
        programId: sent.id,
        programName: "packets_2",
        filter: { priority: 5, handle: 16, chain: 0, name: "bun-bpf" },
        ifindex: loopback,
        interface: "lo",
      },
    ] as object[] as Shown[]);
  });

  testWith(xdp)(
    "does not take the link of another namespace for that of an XDP program",
    async () => {
      using network = new TestNetwork();
      using other = new TestNetwork();
      using packets = new PacketPrograms();
      using program = packets.load("xdp", pass);
      using _link = program.attach({ interface: "lo", netns: other });
      using _attachment = program.attach({ interface: "lo", netns: network, method: "netlink" });
      const shown = await network.enter(() => cliJson<Shown[]>(["net"]));
      const found = shown.filter(({ programId }) => programId === program.id);
      expect(found).toEqual([
        {
          hook: "xdp",
          programId: program.id,
          programName: "packets_1",
          mode: "generic",
          ifindex: loopback,
          interface: "lo",
        },
      ] as object[] as Shown[]);
    },
  );

  testWith(tcx, netfilter)("lists tcx programs in their order, and netfilter links", async () => {
    using network = new TestNetwork();
    using packets = new PacketPrograms();
    using first = packets.load("tcx/ingress", next, 1);
    using second = packets.load("tcx/ingress", next, 2);
    using filtering = packets.load("netfilter", 1, 3);
    const at = { interface: "lo", netns: network } as const;
    using late = first.attach(at);
    using early = second.attach({ ...at, before: "all" });
    using hook = filtering.attach({
      family: "ipv4",
      hook: "local_in",
      priority: 7,
      netns: network,
    });
    const shown = await network.enter(() => cliJson<Shown[]>(["net"]));
    expect(shown).toMatchObject([
      { hook: "tcx_ingress", programId: second.id, linkId: early.id, interface: "lo" },
      { hook: "tcx_ingress", programId: first.id, linkId: late.id, interface: "lo" },
      ...shown.slice(2),
    ]);
    expect(shown.find(({ programId }) => programId === filtering.id)).toEqual({
      hook: "netfilter",
      programId: filtering.id,
      programName: "packets_3",
      linkId: hook.id,
      netfilter: { family: "ipv4", hook: "local_in", priority: 7 },
    } as object as Shown);
    const text = await network.enter(() => cliText(["net"]));
    expect(text).toMatch(
      new RegExp(
        `^- +netfilter +${filtering.id} packets_3 +${hook.id} +ipv4 local_in, priority 7$`,
        "m",
      ),
    );
  });

  testWith(features.attachKinds.get("sk_lookup"))(
    "lists nothing in an empty namespace",
    async () => {
      using network = new TestNetwork();
      const shown = await network.enter(() => cliJson<Shown[]>(["net"]));
      expect(shown.filter(({ hook }) => hook !== "netfilter")).toEqual([]);
    },
  );

  testWith(features.attachKinds.get("sk_lookup"))(
    "lists the programs of the namespace",
    async () => {
      using network = new TestNetwork();
      using packets = new PacketPrograms();
      using program = packets.load("sk_lookup", 1);
      const target = { fd: program.fd, attachType: "sk_lookup", target: network.fd } as const;
      using _link = new Descriptor(createLink(target, { doing: "attach" }), "link of a test");
      const shown = await network.enter(() => cliJson<Shown[]>(["net"]));
      expect(shown.find(({ hook }) => hook === "sk_lookup")).toEqual({
        hook: "sk_lookup",
        programId: program.id,
        programName: "packets_1",
      } as object as Shown);
      // Other namespaces have none.
      const others = await cliJson<Shown[]>(["net"]);
      expect(others.map(({ programId }) => programId)).not.toContain(program.id);
    },
  );

  bpfTest("names the missing capability", async () => {
    const { stderr, exitCode } = await cli(["net"], {
      preload: "./test/support/drop_capabilities.ts",
    });
    expect([exitCode, stderr]).toEqual([1, expect.stringContaining("CAP_NET_ADMIN")]);
  });

  bpfTest("has a help with the keys of the JSON output", async () => {
    expect(await cliText(["net", "--help"])).toMatch(/filter \(priority, handle, chain, name\)/);
  });
});
