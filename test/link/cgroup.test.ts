import { afterAll, beforeAll, describe, expect } from "bun:test";
import {
  type AttachKind,
  attachedPrograms,
  type CgroupOptions,
  features,
  type Link,
  type Program,
  type SectionName,
} from "../../src/index.ts";
import { bpfObstacle } from "../support/privilege.ts";
import { RunCounter } from "./counter.ts";
import { EventProcess } from "./event_process.ts";
import { wayTest } from "./way.ts";

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
