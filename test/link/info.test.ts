/** Tests of the information about links, for the link types that this kernel has. */
import { afterAll, beforeAll, describe, expect } from "bun:test";
import {
  fstatSync,
  mkdirSync,
  mkdtempSync,
  readlinkSync,
  rmdirSync,
  rmSync,
  statSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  asm,
  Btf,
  features,
  KernelSymbols,
  Link,
  type LinkInfo,
  listLinks,
  Program,
  type SectionName,
} from "../../src/index.ts";
import { loadFor } from "../../src/features/attach_probes.ts";
import { FunctionNames } from "../../src/inspect/objects.ts";
import { bpftoolJson, bpftoolObstacle } from "../support/bpftool.ts";
import { testWith } from "../support/needs.ts";
import { bpfObstacle, bpfTest } from "../support/privilege.ts";
import { countResources } from "../support/resources.ts";
import { interfaceName } from "../../src/ffi/socket.ts";
import { TestNetwork, vethObstacle } from "../support/network.ts";
import { testUnless } from "../support/skipping.ts";
import { atPlaceOf, ways } from "./all_ways.ts";
import {
  attachCgroup,
  attachCounter,
  type Attached,
  attachFentry,
  attachIterator,
  attachKprobe,
  attachKprobes,
  attachNetfilter,
  attachNetns,
  attachTcx,
  attachUprobe,
  attachUprobes,
  attachXdp,
  cgroupRoot,
  contextSwitches,
  loopback,
  obstacleTo,
  probed,
} from "./attachments.ts";

const folder = mkdtempSync(join(tmpdir(), "links-"));
const file = join(folder, "true");
const cgroup = cgroupRoot();
const ownCgroup = cgroup === undefined ? undefined : join(cgroup, `bun-bpf-test-${process.pid}`);

beforeAll(() => {
  if (ownCgroup !== undefined) mkdirSync(ownCgroup);
});
afterAll(() => {
  rmSync(folder, { recursive: true });
  if (ownCgroup !== undefined) rmdirSync(ownCgroup);
});

/** Link types, with the expected information except the ids. */
const kinds: readonly {
  readonly name: string;
  readonly make: () => Attached;
  readonly info: () => object;
}[] = [
  {
    name: "tcx",
    make: attachTcx,
    info: () => ({
      type: "tcx",
      ifindex: loopback,
      interfaceName: "lo",
      attachType: "tcx_egress",
    }),
  },
  {
    name: "xdp",
    make: attachXdp,
    info: () => ({ type: "xdp", ifindex: loopback, interfaceName: "lo" }),
  },
  {
    name: "cgroup",
    make: () => attachCgroup(cgroup ?? "/no/cgroup2"),
    info: () => ({
      type: "cgroup",
      cgroupId: BigInt(statSync(cgroup as string).ino),
      attachType: "cgroup_inet_egress",
    }),
  },
  {
    name: "netns",
    make: attachNetns,
    info: () => ({
      type: "netns",
      netnsInode: Number(/\d+/.exec(readlinkSync("/proc/self/ns/net"))?.[0]),
      attachType: "sk_lookup",
    }),
  },
  {
    name: "netfilter",
    make: attachNetfilter,
    info: () => ({ type: "netfilter", family: "ipv4", hook: "local_in", priority: -7, flags: 0 }),
  },
  {
    name: "iter",
    make: attachIterator,
    info: () => ({
      type: "iter",
      // Reported since kernel 5.10, the oldest tested one.
      target: "task",
      mapId: undefined,
      cgroupId: undefined,
      cgroupOrder: undefined,
      tid: undefined,
      pid: undefined,
    }),
  },
];

for (const { name, make, info } of kinds) {
  testUnless(obstacleTo(make))(
    `info() and listLinks() have the same information about ${name} links`,
    () => {
      using attached = make();
      const actual = attached.link.info();
      expect(actual).toEqual({ id: actual.id, programId: actual.programId, ...info() } as LinkInfo);
      expect(actual.programId).toBeGreaterThan(0);
      const listed = [...listLinks()].find(({ id }) => id === actual.id);
      // Only the link itself knows the name of the interface of an XDP program.
      const expected = actual.type === "xdp" ? { ...actual, interfaceName: undefined } : actual;
      expect(listed).toEqual(expected);
    },
  );
}

describe("info() of uprobe_multi links", () => {
  const offsets = [0x1000n, 0x1010n, 0x2000n];
  const make = () => attachUprobes(file, offsets, 5n);
  testUnless(obstacleTo(make))("has the file, the offsets and the cookies", () => {
    using attached = make();
    const info = attached.link.info();
    if (info.type !== "uprobe_multi") throw new Error(`a link of type ${info.type}`);
    // Reported since kernel 6.8.
    if (info.count === undefined) return;
    expect(info).toMatchObject({ count: 3, path: file, flags: 0, offsets, cookies: [5n, 6n, 7n] });
    expect([info.pid, info.referenceOffsets]).toEqual([undefined, undefined]);
  });
});

describe("info() of perf event links", () => {
  const uprobe = () => attachUprobe(file, 0x1000n);
  testUnless(obstacleTo(uprobe))("has the place of a uprobe", () => {
    using attached = uprobe();
    const event = eventOf(attached);
    // Reported since kernel 6.6.
    if (event === undefined) return;
    expect(event).toEqual({ kind: "uprobe", path: file, offset: 0x1000, cookie: undefined });
  });

  testUnless(obstacleTo(attachCounter))("has the type of a counter", () => {
    using attached = attachCounter();
    const event = eventOf(attached);
    if (event === undefined) return;
    expect(event).toMatchObject({ kind: "event", eventType: 1, config: contextSwitches });
    expect([0x1234n, undefined]).toContain(event.cookie);
  });

  bpfTest("has the name of a tracepoint", () => {
    using program = tracepointProgram("tp/sched/sched_process_exec");
    using link = program.attach();
    let info: LinkInfo;
    try {
      info = link.info();
    } catch {
      // Kernels before 5.15 have no links of perf events.
      return;
    }
    if (info.type !== "perf_event") throw new Error(`a link of type ${info.type}`);
    if (info.event === undefined) return;
    expect(info.event).toEqual({
      kind: "tracepoint",
      name: "sched_process_exec",
      cookie: undefined,
    });
  });
});

describe("info() of links to kernel functions", () => {
  testUnless(obstacleTo(attachKprobe))("has the function of a kprobe", () => {
    using attached = attachKprobe();
    const event = eventOf(attached);
    // Reported since kernel 6.6.
    if (event === undefined) return;
    expect(event).toMatchObject({ kind: "kprobe", name: probed, offset: 0, missed: 0 });
    // After an instruction with which a function may begin, such as endbr64.
    const address = event.kind === "kprobe" ? event.address : undefined;
    if (address !== undefined) {
      expect(KernelSymbols.read().lookup(address)?.name).toBe(probed);
    }
  });

  testUnless(obstacleTo(() => attachKprobes(9n)))(
    "has the functions of a kprobe_multi link",
    () => {
      using attached = attachKprobes(9n);
      const info = attached.link.info();
      if (info.type !== "kprobe_multi") throw new Error(`a link of type ${info.type}`);
      // Reported since kernel 6.6, cookies since 6.9.
      if (info.count === undefined) return;
      expect(info).toMatchObject({ count: 1, flags: 0 });
      const [address] = info.addresses ?? [];
      if (address !== undefined) {
        expect(KernelSymbols.read().lookup(address)?.name).toBe(probed);
      }
      expect(info.cookies ?? [9n]).toEqual([9n]);
    },
  );

  testUnless(obstacleTo(attachFentry))("has the BTF type of the function of a tracing link", () => {
    using attached = attachFentry();
    const info = attached.link.info();
    if (info.type !== "tracing") throw new Error(`a link of type ${info.type}`);
    expect(info).toMatchObject({ attachType: "trace_fentry", cookie: undefined });
    // Reported since kernel 5.13.
    if (info.targetTypeId === undefined) return;
    expect(Btf.kernel().type(info.targetTypeId)).toMatchObject({ kind: "func", name: probed });
    expect(new FunctionNames().targetOf(info)).toContain(probed);
  });
});

describe("in each way, the link has the program and the target in info() and in its text", () => {
  for (const way of ways) {
    testWith(features.attachKinds.get(way.kind))(way.kind, () => {
      using program = loadFor(way.row, "way");
      atPlaceOf(way, (options: Place) => {
        using link = program.attach(options);
        const info = link.info();
        expect(info.programId).toBe(program.id);
        expect(`${link}`).toMatch(
          / (link|attachment) to |^(xdp program|tc filter|socket filter|reuseport program) of /,
        );
        if (options.interface !== undefined) {
          expect(info).toMatchObject({ ifindex: options.interface });
          expect(`${link}`).toContain(`interface ${options.interface}`);
        }
        if (options.cgroup !== undefined) {
          expect(info).toMatchObject({
            type: "cgroup",
            cgroupId: fstatSync(options.cgroup.fd, { bigint: true }).ino,
          });
        }
        if (options.map !== undefined) expect(info.type).toBe("sockmap");
      });
    });
  }
});

bpfTest("info() of raw tracepoint links has the name, also for tp_btf", () => {
  for (const section of ["raw_tp/sched_process_exec", "tp_btf/sched_process_exec"] as const) {
    using program = tracepointProgram(section);
    using link = program.attach();
    expect(link.info()).toEqual({
      type: "raw_tracepoint",
      id: link.info().id,
      programId: program.info().id,
      name: "sched_process_exec",
      cookie: undefined,
    });
  }
});

const cgroupObstacle =
  cgroup === undefined
    ? "no cgroups of version 2 are mounted"
    : obstacleTo(() => attachCgroup(cgroup));
testUnless(cgroupObstacle)("info() has no target after the target was removed", async () => {
  using attached = attachCgroup(ownCgroup as string);
  const before = attached.link.info();
  expect(before).toMatchObject({ cgroupId: BigInt(statSync(ownCgroup as string).ino) });
  rmdirSync(ownCgroup as string);
  // The kernel frees the cgroup asynchronously.
  for (let round = 0; round < 500; round++) {
    const { programId } = attached.link.info();
    if (programId === 0 || attached.link.info().type !== "cgroup") break;
    if ((attached.link.info() as { cgroupId?: bigint }).cgroupId === undefined) break;
    await Bun.sleep(10);
  }
  expect(attached.link.info()).toMatchObject({ type: "cgroup", cgroupId: undefined });
  mkdirSync(ownCgroup as string);
});

testUnless(obstacleTo(attachTcx))(
  "info() of a detached link has the program, but no interface",
  () => {
    using attached = attachTcx();
    const { programId } = attached.link.info();
    expect(attached.link.detach().info()).toMatchObject({
      type: "tcx",
      programId,
      ifindex: undefined,
      interfaceName: undefined,
    });
  },
);

describe("listLinks()", () => {
  bpfTest(
    "is in the order of ids, skips links that are removed meanwhile, and leaves nothing open",
    () => {
      const before = countResources();
      // A program per link, because older kernels attach a program to a tracepoint only once.
      const links = Array.from({ length: 30 }, () => {
        using program = tracepointProgram("raw_tp/sched_process_exec");
        return program.attach();
      });
      const ids = links.map((link) => link.info().id);
      const seen: number[] = [];
      for (const { id } of listLinks()) {
        seen.push(id);
        // There may be links of other processes.
        if (ids.includes(id)) links[ids.indexOf(id) + 1]?.[Symbol.dispose]();
      }
      expect(seen).toEqual([...new Set(seen)].sort((a, b) => a - b));
      expect(seen).toContain(ids[0] as number);
      for (const link of links) link[Symbol.dispose]();
      for (const _info of listLinks()) break;
      expect(countResources()).toEqual(before);
    },
  );
});

testUnless(bpfObstacle ?? bpftoolObstacle)("info() agrees with bpftool", async () => {
  using program = tracepointProgram("raw_tp/sched_process_exec");
  using link = program.attach();
  const { id, programId } = link.info();
  expect(await bpftoolJson("link", "show", "id", `${id}`)).toMatchObject({
    id,
    prog_id: programId,
    type: "raw_tracepoint",
    tp_name: "sched_process_exec",
  });
  for (const { name, make, info } of kinds) {
    if (obstacleTo(make) !== undefined) continue;
    using attached = make();
    const actual = await bpftoolJson<Record<string, unknown>>(
      ...["link", "show", "id", `${attached.link.info().id}`],
    );
    const expected = info() as Record<string, unknown>;
    expect(actual["prog_id"], name).toBe(attached.link.info().programId);
    // Only for link types that all versions of bpftool support.
    if (name === "cgroup")
      expect(BigInt(actual["cgroup_id"] as number)).toBe(expected["cgroupId"] as bigint);
    if (name === "netns") expect(actual["netns_ino"]).toBe(expected["netnsInode"]);
    if (name === "iter") expect(actual["target_name"]).toBe(expected["target"]);
  }
});

/** The options that name the place of a way. */
interface Place {
  readonly interface?: number;
  readonly cgroup?: { readonly fd: number };
  readonly map?: { readonly fd: number };
}

function eventOf({ link }: Attached) {
  const info = link.info();
  if (info.type !== "perf_event") throw new Error(`a link of type ${info.type}`);
  return info.event;
}

function tracepointProgram(section: SectionName): Program {
  return new Program({ section, license: "GPL", code: [asm.mov(asm.r0, 0), asm.exit()] });
}

describe("the name of an interface is that of the right network namespace:", () => {
  for (const [kind, section, method] of [
    ["xdp", "xdp", "link"],
    ["tcx", "tcx/ingress", "tcx"],
    ["netkit", "netkit/primary", undefined],
  ] as const) {
    const obstacle = vethObstacle ?? features.attachKinds.get(kind).reason;
    testUnless(obstacle)(kind, () => {
      // Both namespaces have an interface with the same index, by different names.
      using own = new TestNetwork();
      using other = new TestNetwork();
      const index = kind === "netkit" ? own.addNetkit()[0] : own.addVeth(100, "here", "peer");
      other.addVeth(index, "there", "peer");
      using program = new Program({
        section,
        license: "GPL",
        code: [asm.mov(asm.r0, 0), asm.exit()],
      });
      const name = own.enter(() => interfaceName(index));
      const options = { interface: index, netns: own, ...(method && { method }) };
      using link = program.attachAs(section, options as never);
      expect(link.info()).toMatchObject({ ifindex: index, interfaceName: name });
      other.enter(() => {
        expect(link.info()).toMatchObject({ ifindex: index, interfaceName: name });
        using again = Link.fromId(link.id);
        expect(again.info()).toMatchObject({ ifindex: index, interfaceName: undefined });
        expect(`${again}`).toContain(`${kind} link to interface ${index}`);
        expect([...listLinks()].find(({ id }) => id === link.id)).toEqual(again.info());
      });
      own.enter(() => {
        using again = Link.fromId(link.id);
        // The kernel does not list the links of XDP programs.
        const known = kind === "xdp" ? undefined : name;
        expect(again.info()).toMatchObject({ ifindex: index, interfaceName: known });
      });
      link.detach();
      expect(link.info()).toMatchObject({ ifindex: undefined, interfaceName: undefined });
    });
  }
});
