import { afterAll, beforeAll, describe, expect } from "bun:test";
import { mkdtempSync, openSync, closeSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { detachProgram } from "../../src/ffi/bpf_link.ts";
import { attachedPrograms, features, type Link } from "../../src/index.ts";
import { testWith } from "../support/needs.ts";
import { TestNetwork } from "../support/network.ts";
import { bpfObstacle } from "../support/privilege.ts";
import { RunCounter } from "./counter.ts";
import { EventProcess } from "./event_process.ts";
import { wayTest } from "./way.ts";

const pass = 1;
const lookupTest = testWith(features.attachKinds.get("sk_lookup"));
const dissectorTest = testWith(features.attachKinds.get("flow_dissector_link"));
let child: EventProcess;
const hasCgroups = bpfObstacle === undefined && features.attachKinds.get("cgroup/dev").available;

beforeAll(async () => {
  if (hasCgroups) child = await EventProcess.start();
});
afterAll(async () => {
  if (hasCgroups) await child[Symbol.asyncDispose]();
});

/** Expects that a program runs for an event in the child's namespace until its link is disposed of. */
async function expectRuns(counter: RunCounter, event: string, link: Link): Promise<void> {
  await child.cause(event);
  const during = counter.runs;
  expect(during).toBeGreaterThan(0);
  link[Symbol.dispose]();
  await child.cause(event);
  expect(counter.runs).toBe(during);
}

wayTest("sk_lookup", async () => {
  using counter = new RunCounter();
  using program = counter.program("sk_lookup", pass);
  using link = program.attach({ netns: child.pid });
  expect(link.info()).toMatchObject({
    type: "netns",
    attachType: "sk_lookup",
    netnsInode: statSync(`/proc/${child.pid}/ns/net`).ino,
  });
  await expectRuns(counter, "exchange4", link);
});

wayTest("flow_dissector", async () => {
  using counter = new RunCounter();
  using program = counter.program("flow_dissector", 0);
  using link = program.attach({ netns: child.pid, method: "attach" });
  expect(link.info()).toEqual({
    id: 0,
    type: "netns",
    programId: program.id,
    attachType: "flow_dissector",
    netnsInode: statSync(`/proc/${child.pid}/ns/net`).ino,
  });
  await expectRuns(counter, "hash", link);
});

wayTest("flow_dissector_link", async () => {
  using counter = new RunCounter();
  using program = counter.program("flow_dissector", 0);
  using link = program.attach({ netns: child.pid });
  expect(link.id).toBeGreaterThan(0);
  await expectRuns(counter, "hash", link);
});

describe("sk_lookup", () => {
  lookupTest("has several programs, in the order of attaching", () => {
    using counter = new RunCounter();
    using first = counter.program("sk_lookup", pass);
    using second = counter.program("sk_lookup", pass);
    const ids = () =>
      attachedPrograms({ netns: child.pid, attachType: "sk_lookup" })[0]?.programs.map(
        ({ programId }) => programId,
      );
    expect(ids()).toEqual([]);
    using one = first.attach({ netns: child.pid });
    using _two = second.attach({ netns: child.pid });
    expect(ids()).toEqual([first.id, second.id]);
    one.detach();
    expect(ids()).toEqual([second.id]);
  });

  lookupTest(
    "takes the namespace by path, process id or descriptor, and by default this thread's",
    () => {
      using counter = new RunCounter();
      using program = counter.program("sk_lookup", pass);
      const path = `/proc/${child.pid}/ns/net`;
      const netnsInode = statSync(path).ino;
      const fd = openSync(path, "r");
      try {
        for (const netns of [path, child.pid, { fd }]) {
          using link = program.attach({ netns });
          expect(link.info()).toMatchObject({ netnsInode });
        }
      } finally {
        closeSync(fd);
      }
      using link = program.attach();
      expect(link.info()).toMatchObject({ netnsInode: statSync("/proc/thread-self/ns/net").ino });
    },
  );

  lookupTest("updates its link, if the program is the expected one", async () => {
    using counter = new RunCounter();
    using other = new RunCounter();
    using program = counter.program("sk_lookup", pass);
    using replacement = other.program("sk_lookup", pass);
    using link = program.attach({ netns: child.pid });
    expect(() => link.update(replacement, { expected: replacement })).toThrow("EPERM");
    link.update(replacement, { expected: program });
    await child.cause("exchange4");
    expect([counter.runs, other.runs > 0]).toEqual([0, true]);
  });

  lookupTest("is refused with a hint", () => {
    using counter = new RunCounter();
    using program = counter.program("sk_lookup", pass);
    const folder = mkdtempSync(join(tmpdir(), "netns-"));
    const file = join(folder, "blue");
    writeFileSync(file, "");
    try {
      expect(() => program.attach({ netns: join(folder, "bleu") })).toThrow(
        /cannot open the network namespace .*: open: ENOENT .*did you mean "blue"\?/,
      );
      expect(() => program.attach({ netns: "/run/netns/no-such-namespace" })).toThrow(
        "`ip netns add NAME` creates namespaces",
      );
      expect(() => program.attach({ netns: file })).toThrow(/EINVAL .*is not a network namespace/);
    } finally {
      rmSync(folder, { recursive: true });
    }
    expect(() => program.attach({ netns: 4194305 })).toThrow(/ENOENT .*No process has this id/);
    expect(() => program.attach({ netns: 0 })).toThrow("netns: expected an integer from 1");
    expect(() => program.attach({ netns: "" })).toThrow("netns: expected a path, a process id");
    // @ts-expect-error: wrong on purpose
    expect(() => program.attach({ netns: true })).toThrow("netns: expected a path");
    // @ts-expect-error: wrong on purpose
    expect(() => program.attach({ cgroup: "/" })).toThrow('unknown option "cgroup"');
  });
});

describe("flow_dissector", () => {
  dissectorTest("is the only one of its namespace", () => {
    using counter = new RunCounter();
    using program = counter.program("flow_dissector", 0);
    using other = counter.program("flow_dissector", 0);
    using link = program.attach({ netns: child.pid });
    expect(() => other.attach({ netns: child.pid })).toThrow(
      /cannot attach to the network namespace of process .*: E2BIG .*has a flow dissector already.*`bun-bpf net` lists them$/,
    );
    expect(() => other.attach({ netns: child.pid, method: "attach" })).toThrow(
      /BPF_PROG_ATTACH\): EEXIST .*has a flow dissector already/,
    );
    expect(attachedPrograms({ netns: child.pid, attachType: "flow_dissector" })).toMatchObject([
      { programs: [{ programId: program.id, linkId: undefined }] },
    ]);
    link.detach();
  });

  dissectorTest("without a link is replaced by another one, and detaches only itself", () => {
    using counter = new RunCounter();
    using program = counter.program("flow_dissector", 0);
    using other = counter.program("flow_dissector", 0);
    const ids = () =>
      attachedPrograms({ netns: child.pid, attachType: "flow_dissector" })[0]?.programs.map(
        ({ programId }) => programId,
      );
    const options = { netns: child.pid, method: "attach" } as const;
    using first = program.attach(options);
    using second = other.attach(options);
    expect(ids()).toEqual([other.id]);
    expect(() => program.attach({ ...options, method: "link" })).toThrow(
      /BPF_LINK_CREATE\): EEXIST .*has a flow dissector already/,
    );
    first[Symbol.dispose]();
    expect(ids()).toEqual([other.id]);
    second.update(program, { expected: other });
    expect(ids()).toEqual([program.id]);
    expect(() => program.attach(options)).toThrow("The network namespace has this program already");
    second[Symbol.dispose]();
    expect(ids()).toEqual([]);
  });

  dissectorTest("without a link does not replace the program of another attachment", () => {
    using network = new TestNetwork();
    using counter = new RunCounter();
    using program = counter.program("flow_dissector", 0);
    using other = counter.program("flow_dissector", 0);
    const ids = () =>
      attachedPrograms({ netns: network, attachType: "flow_dissector" })[0]?.programs.map(
        ({ programId }) => programId,
      );
    const options = { netns: network, method: "attach" } as const;
    using first = program.attach(options);
    using second = other.attach(options);
    expect(() => first.update(program)).toThrow(
      /BPF_PROG_ATTACH\): ENOENT\b.*another process has detached or replaced it/,
    );
    expect(ids()).toEqual([other.id]);
    second.detach();
    expect(() => second.update(program)).toThrow("ENOLINK");
    expect(ids()).toEqual([]);
  });

  dissectorTest("without a link can be disposed of after a link has taken its place", () => {
    using network = new TestNetwork();
    using counter = new RunCounter();
    using program = counter.program("flow_dissector", 0);
    using other = counter.program("flow_dissector", 0);
    using attached = program.attach({ netns: network, method: "attach" });
    network.enter(() =>
      detachProgram(
        { programFd: program.fd, attachType: "flow_dissector", targetFd: 0 },
        { doing: "detach in a test" },
      ),
    );
    using link = other.attach({ netns: network, method: "link" });
    attached[Symbol.dispose]();
    expect(attached.disposed).toBe(true);
    expect(attachedPrograms({ netns: network, attachType: "flow_dissector" })).toMatchObject([
      { programs: [{ programId: link.info().programId }] },
    ]);
  });

  dissectorTest("checks its options", () => {
    using counter = new RunCounter();
    using program = counter.program("flow_dissector", 0);
    // @ts-expect-error: wrong on purpose
    expect(() => program.attach({ method: "direct" })).toThrow('expected "link" or "attach"');
  });
});
