/** Tests of `bun-bpf prog attach` and `prog detach`, and of `link detach`, with network interfaces. */
import { commandObstacle } from "../support/commands.ts";
import { describe, expect, setDefaultTimeout } from "bun:test";
import { ArrayMap, asm, features, Program, type SectionName, t } from "../../src/index.ts";
import { testWith } from "../support/needs.ts";
import { TestNetwork } from "../support/network.ts";
import { cli, cliJson, cliText, commandTimeout, mainFile } from "./run_cli.ts";

setDefaultTimeout(commandTimeout);

const { attachKinds } = features;
const { r0, r1, r2, fp } = asm;

/** A network namespace, and a program that counts the packets of its loopback interface. */
class Counted implements Disposable {
  readonly #network = new TestNetwork();
  readonly #counts = new ArrayMap({ value: t.u64, length: 1 });
  readonly program: Program;
  /** The options of the command that name the interface. */
  readonly place: readonly string[];

  constructor(section: SectionName, returned: number) {
    this.place = ["interface=lo", `netns=/proc/${process.pid}/fd/${this.#network.fd}`];
    this.program = new Program({
      section,
      license: "GPL",
      maps: { counts: this.#counts },
      code: [
        ...[asm.stw(fp, -4, 0), asm.ldMap(r1, "counts"), asm.mov(r2, fp), asm.add(r2, -4)],
        ...[asm.call("map_lookup_elem"), asm.jeq(r0, 0, "out"), asm.mov(r1, 1)],
        ...[asm.atomicAdd(r0, 0, r1), asm.label("out"), asm.mov(r0, returned), asm.exit()],
      ],
    });
  }

  /** Sends a packet, and returns true if the program has counted it. */
  runs(): boolean {
    const before = this.#counts.get(0);
    expect(this.#network.send()).toBe(true);
    return this.#counts.get(0) !== before;
  }

  [Symbol.dispose](): void {
    this.program[Symbol.dispose]();
    this.#counts[Symbol.dispose]();
    this.#network[Symbol.dispose]();
  }
}

const pass = 2;
const next = -1;

describe("a program that is attached by netlink runs after `--keep` has ended, until `prog detach`:", () => {
  for (const [kind, section, returned, attaching, place] of [
    ["xdp_netlink", "xdp", pass, ["method=netlink"], []],
    ["xdp_netlink", "xdp", pass, ["method=netlink", "mode=generic"], ["mode=generic"]],
    ["tc", "tc/ingress", next, ["method=netlink"], []],
    ["tc", "tc", next, ["method=netlink", "direction=egress"], ["direction=egress"]],
    ["tc", "tc/egress", next, ["method=netlink", "priority=5", "handle=7"], ["priority=5"]],
  ] as const) {
    testWith(attachKinds.get(kind))(`${section} ${attaching.join(" ")}`, async () => {
      using counted = new Counted(section, returned);
      const { id } = counted.program;
      const attach = ["prog", "attach", id, section, ...counted.place, ...attaching, "--keep"];
      expect(await cliText(attach)).toBe("");
      expect(counted.runs()).toBe(true);
      const detach = ["prog", "detach", id, section, ...counted.place, ...place];
      expect(await cliJson<object>(detach)).toEqual({ programId: id, section, detached: true });
      expect(counted.runs()).toBe(false);
      const { stderr, exitCode } = await cli(detach);
      expect(exitCode).toBe(1);
      expect(stderr).toMatch(/netlink: ENOENT\b.*The program is not attached there/);
    });
  }
});

for (const [kind, section, returned] of [
  ["xdp_netlink", "xdp", pass],
  ["tc", "tc/ingress", next],
] as const) {
  testWith(attachKinds.get(kind))(
    `${section} by netlink is detached when the terminal is closed (SIGHUP), unless nohup(1) ignores that`,
    async () => {
      using counted = new Counted(section, returned);
      const hasNohup = commandObstacle("nohup") === undefined;
      for (const command of hasNohup ? [[], ["nohup"]] : [[]]) {
        const child = Bun.spawn(
          [
            ...[...command, process.execPath, mainFile, "prog", "attach", `${counted.program.id}`],
            ...[section, ...counted.place, "method=netlink", "--json"],
          ],
          { stdin: "ignore", stdout: "pipe", stderr: "ignore" },
        );
        await child.stdout.getReader().read();
        expect(counted.runs()).toBe(true);
        child.kill("SIGHUP");
        if (command.length > 0) {
          await Bun.sleep(100);
          expect(counted.runs()).toBe(true);
          child.kill("SIGTERM");
        }
        expect(await child.exited).toBe(0);
        expect(counted.runs()).toBe(false);
      }
    },
  );
}

testWith(attachKinds.get("xdp"))(
  "XDP programs with a link are detached by `link detach`",
  async () => {
    using counted = new Counted("xdp", pass);
    const { id } = counted.program;
    using link = counted.program.attachAs("xdp", {
      interface: "lo",
      netns: (counted.place[1] ?? "").replace("netns=", ""),
    });
    expect(counted.runs()).toBe(true);
    const { stderr, exitCode } = await cli(["prog", "detach", id, "xdp", ...counted.place]);
    expect(exitCode).toBe(1);
    expect(stderr).toEndWith(`The program has 1 link: \`bun-bpf link detach ${link.id}\`\n`);
    expect(counted.runs()).toBe(true);
    await cliText(["link", "detach", link.id]);
    expect(counted.runs()).toBe(false);
  },
);

testWith(attachKinds.get("xdp_netlink"))("mistakes in options are named", async () => {
  using counted = new Counted("xdp", pass);
  const { id } = counted.program;
  const [, netns = ""] = counted.place;
  for (const [args, status, message] of [
    [["interface=lo", "mode=fast"], 2, 'mode: expected "driver", "generic" or "offload"'],
    [[netns], 2, "interface: expected the name or the index of a network interface"],
    [["interface=lo", "method=netlink"], 2, 'unknown option "method"'],
    [["interface=absent0", netns], 1, "absent0"],
    [["interface=lo", netns], 1, "The program is not attached there"],
  ] as const) {
    const { stdout, stderr, exitCode } = await cli(["prog", "detach", id, "xdp", ...args]);
    expect({ args, stdout, exitCode }).toEqual({ args, stdout: "", exitCode: status });
    expect(stderr).toContain(message);
    expect(stderr.trimEnd().split("\n")).toHaveLength(1);
  }
});
