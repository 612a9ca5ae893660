import { expect, test } from "bun:test";
import { statSync } from "node:fs";
import { isKernelSince } from "../../src/ffi/kernel.ts";
import { asm, BpfError, features, type Link, Program } from "../../src/index.ts";
import { openNetns } from "../../src/ffi/namespace.ts";
import { inNetns } from "../../src/link/network_target.ts";
import { bunWithDescriptors } from "../support/last_descriptors.ts";
import { PacketPrograms, TestNetwork } from "../support/network.ts";
import { testWith } from "../support/needs.ts";
import { bpfTest } from "../support/privilege.ts";
import { countResources } from "../support/resources.ts";
import { run, runBun } from "../support/run.ts";

const inode = () => statSync("/proc/thread-self/ns/net").ino;

bpfTest("a network namespace is entered for a call, also if the call fails", () => {
  using network = new TestNetwork();
  const own = inode();
  const other = network.enter(inode);
  expect(other).not.toBe(own);
  expect(inNetns(network, inode)).toBe(other);
  expect(inNetns(undefined, inode)).toBe(own);
  expect(() =>
    inNetns(network, () => {
      throw new RangeError("of the call");
    }),
  ).toThrow("of the call");
  expect(inode()).toBe(own);
});

test("a network namespace is opened by a path or by the id of a process", () => {
  for (const netns of [process.pid, `/proc/${process.pid}/ns/net`, "/proc/self/ns/net"]) {
    using opened = openNetns(netns);
    expect(statSync(`/proc/self/fd/${opened.fd}`).ino).toBe(inode());
  }
  for (const wrong of [{}, null, undefined, "", "a\0b", true] as unknown as string[]) {
    expect(() => openNetns(wrong)).toThrow(TypeError);
  }
  for (const wrong of [0, -1, 1.5, { fd: -1 }]) expect(() => openNetns(wrong)).toThrow(RangeError);
  expect(() => openNetns("/nowhere")).toThrow(
    "cannot open the network namespace /nowhere: open: ENOENT (no such file or directory). The file does not exist: `ip netns add NAME` creates namespaces as /run/netns/NAME",
  );
  expect(() => openNetns(`/proc/${process.pid}/ns/nett`)).toThrow(
    'ENOENT (no such file or directory). The file does not exist: did you mean "net"?',
  );
  // Process ids are less than 2^22.
  expect(() => openNetns(0x7fff_fffe)).toThrow(/ENOENT .*\. No process has this id/);
  expect(() => openNetns({ fd: 0x7fff_fffe })).toThrow(BpfError);
});

test("an interface is not reported as missing if it cannot be looked up", async () => {
  const code = `
    import { interfaceName } from "./src/ffi/socket.ts";
    import { missingInterface } from "./src/link/network_target.ts";
    import { takeDescriptors } from "./test/support/last_descriptors.ts";
    const tries = [() => interfaceName(1), () => missingInterface({ index: 1 })];
    const outcome = (call) => {
      try {
        return String(call());
      } catch (error) {
        return error.message;
      }
    };
    const before = tries.map(outcome);
    const taken = takeDescriptors(0);
    const during = tries.map(outcome);
    taken[Symbol.dispose]();
    console.log(JSON.stringify({ before, during, missing: missingInterface({ index: 998 }) }));`;
  const { stdout, stderr } = await run(bunWithDescriptors(100, ["-e", code]));
  expect(stderr).toBe("");
  // glibc replaces EMFILE by ENOENT.
  const message = expect.stringMatching(
    /^cannot find the network interface 1: if_indextoname: (EMFILE|ENOENT)/,
  );
  expect(JSON.parse(stdout)).toEqual({
    before: ["lo", "undefined"],
    during: [message, message],
    missing: expect.stringContaining("no interface with the index 998"),
  });
});

testWith(features.attachKinds.get("xdp_netlink"), features.attachKinds.get("tc"))(
  "nothing stays open after programs were attached, replaced and refused many times",
  () => {
    using network = new TestNetwork();
    using packets = new PacketPrograms();
    using program = packets.load("xdp", 2, 1);
    using other = packets.load("xdp", 2, 2);
    using classifier = packets.load("tc/ingress", -1, 3);
    const round = () => {
      for (const method of ["link", "netlink"] as const) {
        if (method === "link" && !features.attachKinds.get("xdp").available) continue;
        using link: Link = program.attach({ interface: "lo", netns: network, method });
        link.update(other);
        expect(() => program.attach({ interface: "lo", netns: network, method })).toThrow(BpfError);
      }
      using _filter = classifier.attach({ interface: "lo", netns: network, method: "netlink" });
      using _default = classifier.attach({ interface: "lo", netns: network });
    };
    round();
    const before = countResources();
    for (let count = 0; count < 10; count++) round();
    expect(countResources()).toEqual(before);
  },
);

testWith(features.programTypes.get("raw_tracepoint"))(
  "programs of another type are refused",
  () => {
    using program = new Program({
      section: "raw_tp/sched_switch",
      license: "GPL",
      code: [asm.mov(asm.r0, 0), asm.exit()],
    });
    for (const section of [
      ...["xdp", "tc/ingress", "netkit/primary", "netfilter", "sk_lookup", "flow_dissector"],
      ...["cgroup/bind4", "socket", "sk_reuseport", "sk_msg", "sk_skb/verdict"],
    ]) {
      // The options would be refused, too, but the type is checked first.
      expect(() => program.attachAs(section as "xdp", { interface: "none" })).toThrow(
        `its type is raw_tracepoint, and programs of section "${section}" are `,
      );
    }
  },
);

testWith(features.attachKinds.get("xdp_netlink"))("a missing capability is named", async () => {
  using network = new TestNetwork();
  // The programs are loaded before the capabilities are dropped. Links need none: the kernel checks only the program.
  const code = `
    import { openSync } from "node:fs";
    import { asm, Program } from "./src/index.ts";
    const other = { fd: openSync("/proc/" + process.ppid + "/ns/net") };
    const load = (section, returned) =>
      new Program({ section, license: "GPL", code: [asm.mov(asm.r0, returned), asm.exit()] });
    const xdp = load("xdp", 2);
    const tc = load("tc/ingress", -1);
    await import("./test/support/drop_capabilities.ts");
    for (const attach of [
      () => xdp.attach({ interface: "lo", method: "netlink" }),
      () => tc.attach({ interface: "lo", method: "netlink" }),
      () => xdp.attach({ interface: "lo", netns: other }),
    ]) {
      try {
        attach();
      } catch (error) {
        console.log(error.code, error.hint);
      }
    }`;
  const { stdout, stderr } = await network.enter(() => runBun(["-e", code]));
  expect(stderr).toBe("");
  const lines = stdout.trimEnd().split("\n");
  expect(lines).toHaveLength(3);
  // Before Linux 5.19, unprivileged_bpf_disabled also forbids bpf(2) for programs that were loaded before.
  const lacking = isKernelSince("5.19") ? "CAP_NET_ADMIN" : "(?:CAP_NET_ADMIN|CAP_BPF)";
  for (const line of lines.slice(0, 2)) {
    expect(line).toMatch(new RegExp(`^EPERM This process lacks ${lacking}: `));
  }
  expect(lines[2]).toMatch(/^EPERM This process lacks CAP_SYS_ADMIN/);
});
