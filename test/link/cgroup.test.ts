import { afterAll, beforeAll, describe, expect } from "bun:test";
import {
  asm,
  attachedPrograms,
  type AttachKind,
  type CgroupOptions,
  features,
  type Link,
  ProgArray,
  Program,
  type SectionName,
} from "../../src/index.ts";
import { testWith } from "../support/needs.ts";
import { bpfObstacle } from "../support/privilege.ts";
import { RunCounter } from "./counter.ts";
import { EventProcess } from "./event_process.ts";
import { wayTest } from "./way.ts";

/** Defines a test that needs cgroups with programs. */
const cgroupTest = testWith(features.attachKinds.get("cgroup/bind4"));
let child: EventProcess;
const hasCgroups = bpfObstacle === undefined && features.attachKinds.get("cgroup/dev").available;

beforeAll(async () => {
  if (hasCgroups) child = await EventProcess.start();
});
afterAll(async () => {
  if (hasCgroups) await child[Symbol.asyncDispose]();
});

/** Sections of cgroups, with the event that their programs see. */
const events: readonly (readonly [section: AttachKind & SectionName, event: string])[] = [
  ["cgroup_skb/ingress", "exchange4"],
  ["cgroup_skb/egress", "exchange4"],
  ["cgroup/sock_create", "bind4"],
  ["cgroup/sock_release", "bind4"],
  ["cgroup/post_bind4", "bind4"],
  ["cgroup/post_bind6", "bind6"],
  ["cgroup/bind4", "bind4"],
  ["cgroup/bind6", "bind6"],
  ["cgroup/connect4", "connect4"],
  ["cgroup/connect6", "connect6"],
  ["cgroup/connect_unix", "connect_unix"],
  ["cgroup/sendmsg4", "exchange4"],
  ["cgroup/sendmsg6", "exchange6"],
  ["cgroup/sendmsg_unix", "exchange_unix"],
  ["cgroup/recvmsg4", "exchange4"],
  ["cgroup/recvmsg6", "exchange6"],
  ["cgroup/recvmsg_unix", "exchange_unix"],
  ["cgroup/getpeername4", "connect4"],
  ["cgroup/getpeername6", "connect6"],
  ["cgroup/getpeername_unix", "connect_unix"],
  ["cgroup/getsockname4", "connect4"],
  ["cgroup/getsockname6", "connect6"],
  ["cgroup/getsockname_unix", "connect_unix"],
  ["cgroup/getsockopt", "option"],
  ["cgroup/setsockopt", "option"],
  ["cgroup/sysctl", "sysctl"],
  ["cgroup/dev", "device"],
  ["sockops", "tcp"],
];

/** Attaches a program that counts its runs to the child's cgroup. */
function attachTo(program: Program<"cgroup_skb/ingress">, options: Partial<CgroupOptions>): Link {
  return program.attach({ cgroup: child.cgroup.path, ...options });
}

/** Expects that a program runs for an event until `end` detaches it. */
async function expectRuns(counter: RunCounter, event: string, end: () => void): Promise<void> {
  const before = counter.runs;
  await child.cause(event);
  const during = counter.runs;
  expect(during).toBeGreaterThan(before);
  end();
  await child.cause(event);
  expect(counter.runs).toBe(during);
}

const hasLinks = hasCgroups && features.attachKinds.get("cgroup_link").available;

for (const [section, event] of events) {
  wayTest(section, async () => {
    using counter = new RunCounter();
    using program = counter.program(section, 1) as unknown as Program<"cgroup_skb/ingress">;
    for (const method of hasLinks ? (["link", "attach"] as const) : (["attach"] as const)) {
      using link = attachTo(program, { method });
      expect(link.info().type).toBe("cgroup");
      await expectRuns(counter, event, () => link[Symbol.dispose]());
    }
  });
}

wayTest("lsm_cgroup", async () => {
  using counter = new RunCounter();
  using program = counter.program("lsm_cgroup/quotactl", 1);
  for (const method of ["link", "attach"] as const) {
    using link = program.attach({ cgroup: child.cgroup.path, method });
    await expectRuns(counter, "quotactl", () => link[Symbol.dispose]());
  }
});

testWith(features.attachKinds.get("lsm_cgroup"))(
  "programs of security hooks are listed, and detached in each mode",
  () => {
    using counter = new RunCounter();
    using program = counter.program("lsm_cgroup/quotactl", 1);
    const cgroup = child.cgroup.path;
    const attachType = "lsm_cgroup";
    const programs = [{ programId: program.id }];
    for (const [method, mode] of [
      ["link", "multi"],
      ["attach", "multi"],
      ["attach", "override"],
      ["attach", "exclusive"],
    ] as const) {
      using _attached = program.attach({ cgroup, method, mode });
      const listed = { hook: attachType, cgroupMode: mode, programs };
      expect(attachedPrograms({ cgroup, attachType })).toMatchObject([listed]);
      const all = attachedPrograms({ cgroup });
      expect(all.find(({ hook }) => hook === attachType)).toMatchObject(listed);
      expect(attachedPrograms({ cgroup, attachType, effective: true })).toMatchObject([
        { hook: attachType, cgroupMode: undefined, programs },
      ]);
    }
    expect(attachedPrograms({ cgroup, attachType })).toMatchObject([{ programs: [] }]);
  },
);

wayTest("cgroup_link", async () => {
  using counter = new RunCounter();
  using program = counter.program("cgroup/bind4", 1);
  // Without the option method, the kernel's link is used.
  using link = program.attach({ cgroup: child.cgroup.path });
  expect(link.info()).toMatchObject({ type: "cgroup", programId: program.id });
  expect(link.id).toBeGreaterThan(0);
  await expectRuns(counter, "bind4", () => link[Symbol.dispose]());
});

wayTest("link_update", async () => {
  using first = new RunCounter();
  using second = new RunCounter();
  using old = first.program("cgroup/bind4", 1);
  using replacement = second.program("cgroup/bind4", 1);
  using link = old.attach({ cgroup: child.cgroup.path });
  await expectRuns(first, "bind4", () => link.update(replacement));
  expect(second.runs).toBe(1);
  expect(link.info().programId).toBe(replacement.id);
  // The kernel has the replacement now, so that the old program is not the expected one.
  expect(() => link.update(old, { expected: old })).toThrow(
    /bpf\(BPF_LINK_UPDATE\): EPERM .*another program than the expected one/,
  );
  expect(link.info().programId).toBe(replacement.id);
  link.update(old, { expected: replacement });
  await expectRuns(first, "bind4", () => link[Symbol.dispose]());
});

wayTest("link_detach", async () => {
  using counter = new RunCounter();
  using program = counter.program("cgroup/bind4", 1);
  using link = program.attach({ cgroup: child.cgroup.path });
  await expectRuns(counter, "bind4", () => link.detach());
  expect(link.info()).toMatchObject({ cgroupId: undefined, programId: program.id });
});

describe("a program of the section cgroup/skb", () => {
  cgroupTest("runs for the packets of the direction", async () => {
    for (const direction of ["ingress", "egress"] as const) {
      using counter = new RunCounter();
      using program = counter.program("cgroup/skb", 1);
      using link = program.attach({ cgroup: child.cgroup.path, direction });
      expect(link.info()).toMatchObject({ attachType: `cgroup_inet_${direction}` });
      await expectRuns(counter, "exchange4", () => link[Symbol.dispose]());
    }
  });

  cgroupTest("needs a direction", () => {
    using counter = new RunCounter();
    using program = counter.program("cgroup/skb", 1);
    const cgroup = child.cgroup.path;
    // @ts-expect-error: wrong on purpose
    expect(() => program.attach({ cgroup })).toThrow(
      'attach: direction: expected "ingress" or "egress", got undefined',
    );
  });
});

cgroupTest("a program that returns 0 forbids the operation", async () => {
  using counter = new RunCounter();
  using program = counter.program("cgroup/bind4", 0);
  using link = program.attach({ cgroup: child.cgroup.path });
  expect(await child.failureOf("bind4")).toBe("bind4: bind failed");
  link[Symbol.dispose]();
  expect(await child.failureOf("bind4")).toBeUndefined();
});

cgroupTest("a program of a cgroup continues as another one by a tail call", async () => {
  using counter = new RunCounter();
  using next = counter.program("cgroup/bind4", 1);
  using programs = new ProgArray({ length: 1, name: "next" });
  using first = new Program({
    section: "cgroup/bind4",
    license: "GPL",
    maps: { next: programs },
    code: [
      asm.ldMap(asm.r2, "next"),
      asm.mov(asm.r3, 0),
      asm.call("tail_call"),
      // The slot is empty: forbid the operation.
      asm.mov(asm.r0, 0),
      asm.exit(),
    ],
  });
  using _link = first.attach({ cgroup: child.cgroup.path });
  expect(await child.failureOf("bind4")).toBe("bind4: bind failed");
  programs.set(0, next);
  expect(await child.failureOf("bind4")).toBeUndefined();
  expect(counter.runs).toBe(1);
  programs.delete(0);
  expect(await child.failureOf("bind4")).toBe("bind4: bind failed");
  expect(counter.runs).toBe(1);
});
