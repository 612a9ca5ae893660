/** Tests of `bun-bpf prog attach --keep` and `prog detach`, and of `link detach`, with cgroups. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout } from "bun:test";
import { attachedPrograms, features, HashMap, SockMap, t } from "../../src/index.ts";
import { RunCounter } from "../link/counter.ts";
import { EventProcess } from "../link/event_process.ts";
import { testWith } from "../support/needs.ts";
import { bpfObstacle } from "../support/privilege.ts";
import { cli, cliJson, cliText, commandTimeout } from "./run_cli.ts";

setDefaultTimeout(commandTimeout);

const { attachKinds } = features;
const section = "cgroup_skb/egress";
const attachType = "cgroup_inet_egress";
const hasCgroups = bpfObstacle === undefined && attachKinds.get(section).available;
const cgroupTest = testWith(attachKinds.get(section));
const linkTest = testWith(attachKinds.get("cgroup_link"));

let child: EventProcess;
/** The cgroup of the process, by a path that other processes can open. */
let cgroup = "";

beforeAll(async () => {
  if (!hasCgroups) return;
  child = await EventProcess.start();
  cgroup = child.cgroup.path.replace("/proc/self/", `/proc/${process.pid}/`);
});
afterAll(async () => {
  if (hasCgroups) await child[Symbol.asyncDispose]();
});

/** Returns the ids of the programs that are attached to the cgroup. */
const attachedIds = (): number[] =>
  attachedPrograms({ cgroup, attachType }).flatMap(({ programs }) =>
    programs.map(({ programId }) => programId),
  );

/** Returns true if a packet of the process runs the program. */
async function runs(counter: RunCounter): Promise<boolean> {
  const before = counter.runs;
  await child.cause("exchange4");
  return counter.runs !== before;
}

describe("a program without a link", () => {
  cgroupTest("runs after `prog attach --keep` has ended, until `prog detach`", async () => {
    using counter = new RunCounter();
    using program = counter.program(section, 1);
    const { id } = program;
    const at = `cgroup=${cgroup}`;
    const attach = ["prog", "attach", id, section, at, "method=attach", "--keep"];
    expect(await cliJson<object>(attach)).toEqual({ programId: id, section });
    expect(await runs(counter)).toBe(true);
    const detach = ["prog", "detach", id, section, at];
    expect(await cliJson<object>(detach)).toEqual({ programId: id, section, detached: true });
    expect(await runs(counter)).toBe(false);
    const { stderr, exitCode } = await cli(detach);
    expect(exitCode).toBe(1);
    expect(stderr).toContain("The program is not attached there");
  });

  cgroupTest("is detached at the end of --duration, and cannot be pinned", async () => {
    using counter = new RunCounter();
    using program = counter.program(section, 1);
    const attach = ["prog", "attach", program.id, section, `cgroup=${cgroup}`, "method=attach"];
    expect(await cliText([...attach, "--duration", "0.01"])).toBe("");
    expect(attachedIds()).toEqual([]);
    const { stderr, exitCode } = await cli([...attach, "--pin", "/sys/fs/bpf/absent"]);
    expect(exitCode).toBe(1);
    expect(stderr).toContain("use --keep instead of --pin");
    expect(attachedIds()).toEqual([]);
  });

  cgroupTest("is not detached in place of another one", async () => {
    using counter = new RunCounter();
    using program = counter.program(section, 1);
    using other = counter.program(section, 1);
    using _attached = program.attach({ cgroup, method: "attach", mode: "exclusive" });
    const { stderr, exitCode } = await cli([
      ...["prog", "detach", other.id, section, `cgroup=${cgroup}`],
    ]);
    expect(exitCode).toBe(1);
    expect(stderr).toContain("The program is not attached there");
    expect(await runs(counter)).toBe(true);
  });
});

testWith(attachKinds.get("lsm_cgroup"))(
  "a program of a security hook is detached by `prog detach`",
  async () => {
    using counter = new RunCounter();
    using program = counter.program("lsm_cgroup/quotactl", 1);
    const at = [program.id, "lsm_cgroup/quotactl", `cgroup=${cgroup}`];
    expect(await cliText(["prog", "attach", ...at, "method=attach", "--keep"])).toBe("");
    expect(await cliText(["prog", "detach", ...at])).toBe("");
    expect(attachedPrograms({ cgroup, attachType: "lsm_cgroup" })).toMatchObject([
      { programs: [] },
    ]);
  },
);

describe("a link", () => {
  linkTest("is detached by `link detach`, although a process holds it", async () => {
    using counter = new RunCounter();
    using program = counter.program(section, 1);
    using link = program.attach({ cgroup });
    const { id } = link;
    expect(await runs(counter)).toBe(true);
    expect(await cliJson<object>(["link", "detach", id])).toEqual({ id, detached: true });
    expect(await runs(counter)).toBe(false);
    expect(link.id).toBe(id);
  });

  linkTest("is named by the error of `prog detach`", async () => {
    using counter = new RunCounter();
    using program = counter.program(section, 1);
    using link = program.attach({ cgroup });
    const { stderr, exitCode } = await cli([
      ...["prog", "detach", program.id, section, `cgroup=${cgroup}`],
    ]);
    expect(exitCode).toBe(1);
    expect(stderr).toEndWith(`The program has 1 link: \`bun-bpf link detach ${link.id}\`\n`);
    expect(attachedIds()).toHaveLength(1);
  });
});

linkTest("errors that have other causes do not name the links of the program", async () => {
  using counter = new RunCounter();
  using program = counter.program(section, 1);
  using _link = program.attach({ cgroup });
  for (const [args, status, message] of [
    [["xdp"], 2, 'its type is cgroup_skb, and programs of section "xdp" are xdp'],
    [[section, "cgrup=/x"], 2, 'unknown option "cgrup": did you mean "cgroup"?'],
    [[section, "cgroup=/etc"], 1, "This is not a cgroup"],
  ] as const) {
    const { stderr, exitCode } = await cli(["prog", "detach", program.id, ...args]);
    expect({ args, exitCode }).toEqual({ args, exitCode: status });
    expect(stderr).toContain(message);
    expect(stderr).not.toContain("bun-bpf link detach");
  }
});

testWith(attachKinds.get("raw_tp"))(
  "the link of a program is named if its section is attached by links only",
  async () => {
    using counter = new RunCounter();
    using program = counter.program("raw_tp", 0);
    using link = program.attachAs("raw_tp", { tracepoint: "sched_switch" });
    const { stderr, exitCode } = await cli(["prog", "detach", program.id, "raw_tp/sched_switch"]);
    expect(exitCode).toBe(2);
    expect(stderr).toEndWith(`The program has 1 link: \`bun-bpf link detach ${link.id}\`\n`);
  },
);

testWith(attachKinds.get("cgroup_link"))("programs are attached in an order", async () => {
  using counter = new RunCounter();
  using first = counter.program(section, 1);
  using second = counter.program(section, 1);
  using _link = first.attach({ cgroup, method: "attach" });
  const attach = ["prog", "attach", second.id, section, `cgroup=${cgroup}`, "method=attach"];
  const { stderr } = await cli([...attach, "--keep", `before=prog:${first.id}`]);
  try {
    // The order of programs of a cgroup needs Linux 6.17.
    if (stderr.includes("needs Linux 6.17")) return;
    expect(stderr).toBe("");
    expect(attachedIds()).toEqual([second.id, first.id]);
    await cliText(["prog", "detach", second.id, section, `cgroup=${cgroup}`]);
  } finally {
    expect(attachedIds()).toHaveLength(1);
  }
});

testWith(attachKinds.get("sk_msg"))(
  "a program of a map of sockets is attached and detached by the id of the map",
  async () => {
    using counter = new RunCounter();
    using program = counter.program("sk_msg", 1);
    using sockets = new SockMap({ length: 1 });
    const at = ["sk_msg", `map=id:${sockets.id}`];
    const attach = ["prog", "attach", program.id, ...at, "method=attach", "--keep"];
    expect(await cliText(attach)).toBe("");
    expect(await cliText(["prog", "detach", program.id, ...at])).toBe("");
    const again = await cli(["prog", "detach", program.id, ...at]);
    expect(again.exitCode).toBe(1);
    expect(again.stderr).toContain(
      "The program is not attached there, or it is attached by a link",
    );
    using other = new HashMap({ key: t.u32, value: t.u32, maxEntries: 1 });
    const wrong = await cli(["prog", "detach", program.id, "sk_msg", `map=id:${other.id}`]);
    expect(wrong.exitCode).toBe(1);
  },
);

cgroupTest("errors name the mistake", async () => {
  using counter = new RunCounter();
  using program = counter.program(section, 1);
  const { id } = program;
  for (const [args, status, message] of [
    [["xdp"], 2, 'its type is cgroup_skb, and programs of section "xdp" are xdp'],
    [[section], 2, "expected a cgroup"],
    [[section, "cgrup=/x"], 2, 'unknown option "cgrup": did you mean "cgroup"?'],
    [["cgroup/skb", "cgroup=/x"], 2, 'direction: expected "ingress" or "egress"'],
    [[section, "cgroup=/sys/fs/absent"], 1, "There is no such cgroup"],
    [[section, "cgroup=/etc"], 1, "This is not a cgroup"],
  ] as const) {
    const { stdout, stderr, exitCode } = await cli(["prog", "detach", id, ...args]);
    expect({ args, stdout, exitCode }).toEqual({ args, stdout: "", exitCode: status });
    expect(stderr).toContain(message);
    expect(stderr.trimEnd().split("\n")).toHaveLength(1);
  }
});

testWith(attachKinds.get("socket"))("programs of sockets are refused", async () => {
  using counter = new RunCounter();
  using program = counter.program("socket", 0);
  const { stderr, exitCode } = await cli(["prog", "detach", program.id, "socket"]);
  expect(exitCode).toBe(2);
  expect(stderr).toContain('programs of section "socket" belong to a socket');
});

testWith(attachKinds.get("raw_tp"))("sections without such programs are refused", async () => {
  using counter = new RunCounter();
  using program = counter.program("raw_tp", 0);
  const { stderr, exitCode } = await cli(["prog", "detach", program.id, "raw_tp/sched_switch"]);
  expect(exitCode).toBe(2);
  expect(stderr).toContain('programs of section "raw_tp/sched_switch" are attached by links only');
});
