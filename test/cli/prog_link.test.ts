/** Tests of `bun-bpf prog` and `bun-bpf link`. */
import { describe, expect, setDefaultTimeout } from "bun:test";
import { unlinkSync } from "node:fs";
import { join } from "node:path";
import { asm, HashMap, Program, t } from "../../src/index.ts";
import { MountedBpffs, mountObstacle } from "../inspect/mounted_bpffs.ts";
import { attachFentry, attachTcx, attachXdp, obstacleTo } from "../link/attachments.ts";
import { bpftoolJson, bpftoolObstacle } from "../support/bpftool.ts";
import { bpfObstacle, bpfTest } from "../support/privilege.ts";
import { testUnless } from "../support/skipping.ts";
import { cli, cliJson, cliText, commandTimeout } from "./run_cli.ts";

setDefaultTimeout(commandTimeout);

/** A program or link in the JSON output. */
interface Shown {
  readonly id: number;
  readonly [name: string]: unknown;
}

function newProgram(
  name: string,
  maps: Record<string, HashMap<t.Type<number>, t.Type<bigint>>> = {},
): Program {
  return new Program({
    section: "raw_tp/sched_process_exec",
    license: "GPL",
    name,
    maps,
    code: [
      ...Object.keys(maps).map((map) => asm.ldMap(asm.r1, map)),
      asm.mov(asm.r0, 0),
      asm.exit(),
    ],
  });
}

describe("programs", () => {
  bpfTest("are listed in a line each", async () => {
    using map = new HashMap({ key: t.u32, value: t.u64, maxEntries: 4 });
    using program = newProgram("cli_listed", { map });
    const { id, tag } = program.info();
    const text = await cliText(["prog", "list"]);
    const [heading, ...lines] = text.trimEnd().split("\n");
    expect(heading?.trim().split(/\s+/)).toEqual(
      "ID TYPE NAME TAG CODE MEMORY RUNS LOADED UID MAPS OWNERS PINS".split(" "),
    );
    const line = lines.find((candidate) => candidate.trimStart().startsWith(`${id} `));
    expect(line).toMatch(
      new RegExp(
        `^ *${id}  raw_tracepoint +cli_listed +${tag} +\\d+ B +[\\d.]+ KiB +- +\\d{4}-\\d\\d-\\d\\d \\d\\d:\\d\\d:\\d\\d +\\d+ +${map.id} +\\w+\\(${process.pid}\\) +-$`,
      ),
    );
    const listed = (await cliJson<Shown[]>(["prog", "list"])).find((one) => one.id === id);
    const { loadedAt, ...info } = program.info();
    expect(listed).toMatchObject({
      ...JSON.parse(JSON.stringify(info)),
      loadedAt: loadedAt?.toISOString(),
      owners: [{ pid: process.pid, fd: program.fd }],
      pins: [],
    });
  });

  bpfTest("are shown with maps and links", async () => {
    using map = new HashMap({ key: t.u32, value: t.u64, maxEntries: 4, name: "cli_of_program" });
    using program = newProgram("cli_shown", { map });
    using link = program.attach();
    const { id, tag } = program.info();
    const text = await cliText(["prog", "show", "cli_shown"]);
    expect(text).toMatch(new RegExp(`^id: +${id}$`, "m"));
    expect(text).toMatch(/^type: +raw_tracepoint$/m);
    expect(text).toMatch(new RegExp(`^tag: +${tag}$`, "m"));
    expect(text).toMatch(/^license: +compatible with the GPL$/m);
    expect(text).toMatch(/^loaded: +[-\d]{10} [:\d]{8} by user \d+$/m);
    expect(text).toMatch(/^code: +\d+ bytes of instructions, /m);
    expect(text).toMatch(new RegExp(`^maps: +${map.id} cli_of_program \\(hash\\)$`, "m"));
    const linkId = link.info().id;
    expect(text).toMatch(new RegExp(`^links: +${linkId} raw_tracepoint sched_process_exec$`, "m"));
    expect(await cliJson<Shown>(["prog", "show", id])).toMatchObject({ id, linkIds: [linkId] });
  });

  bpfTest("are shown with the target for which they were loaded", async () => {
    using program = new Program({
      section: "tp_btf/sched_process_exec",
      license: "GPL",
      code: [asm.mov(asm.r0, 0), asm.exit()],
    });
    const { id, target } = program.info();
    // Reported since kernel 6.0.
    if (target === undefined) return;
    expect(await cliText(["prog", "show", id])).toMatch(/^target: +btf_trace_sched_process_exec$/m);
  });
});

testUnless(bpfObstacle ?? mountObstacle)(
  "a pinned program is shown with unknown sizes of its code to a user without CAP_BPF",
  async () => {
    using bpffs = new MountedBpffs();
    using program = newProgram("cli_sizes");
    const path = join(bpffs.path, "program");
    program.pin(path);
    const privileged = await cliText(["prog", "show", path]);
    const shown = await cli(["prog", "show", path], {
      preload: "./test/support/drop_capabilities.ts",
    });
    program.unpin(path);
    expect(privileged).toMatch(/^code: +[1-9]\d* bytes of instructions/m);
    // Some kernels do not let users without capabilities open the pin.
    if (shown.stderr.includes("cannot open the program pinned")) return;
    expect(shown.stdout).toMatch(/^code: +unknown \(this needs CAP_BPF/m);
  },
);

describe("links", () => {
  bpfTest("are listed and shown with their targets", async () => {
    using program = newProgram("cli_linked");
    using link = program.attach();
    const { id } = link.info();
    const programId = program.info().id;
    const lines = (await cliText(["link", "list"])).trimEnd().split("\n");
    expect(lines[0]?.trim().split(/\s+/)).toEqual("ID TYPE PROGRAM TARGET OWNERS PINS".split(" "));
    expect(lines.find((line) => line.trimStart().startsWith(`${id} `))).toMatch(
      new RegExp(
        `^ *${id}  raw_tracepoint +${programId} cli_linked +sched_process_exec +\\w+\\(${process.pid}\\) +-$`,
      ),
    );
    const text = await cliText(["link", "show", id]);
    expect(text).toMatch(
      new RegExp(`^program: +${programId} cli_linked \\(raw_tracepoint\\)$`, "m"),
    );
    expect(text).toMatch(/^target: +sched_process_exec$/m);
    expect(await cliJson<Shown>(["link", "show", `id:${id}`])).toMatchObject({
      id,
      type: "raw_tracepoint",
      programId,
      name: "sched_process_exec",
      owners: [{ pid: process.pid, fd: link.fd }],
    });
  });

  testUnless(obstacleTo(attachTcx))("of other types are shown with their targets", async () => {
    using attached = attachTcx();
    const { id } = attached.link.info();
    expect(await cliText(["link", "show", id])).toMatch(/^target: +lo \(1\) \(tcx_egress\)$/m);
    attached.link.detach();
    expect(await cliText(["link", "show", id])).toMatch(
      /^target: +detached, or its interface is gone \(tcx_egress\)$/m,
    );
  });

  testUnless(obstacleTo(attachXdp))("are shown as detached, if they are of type xdp", async () => {
    using attached = attachXdp();
    const { id } = attached.link.info();
    attached.link.detach();
    expect(await cliText(["link", "show", id])).toMatch(
      /^target: +detached, or its interface is gone$/m,
    );
  });

  testUnless(obstacleTo(attachFentry) ?? mountObstacle)(
    "that are pinned are shown to a user who may not see their programs and types",
    async () => {
      using bpffs = new MountedBpffs();
      using attached = attachFentry();
      const { link } = attached;
      const info = link.info();
      if (info.type !== "tracing") throw new Error(`a link of the kind ${info.type}`);
      const path = join(bpffs.path, "link");
      link.pin(path);
      const privileged = await cliText(["link", "show", path]);
      const preload = "./test/support/drop_capabilities.ts";
      const shown = await cli(["link", "show", path], { preload });
      const json = await cli(["link", "show", path, "--json"], { preload });
      unlinkSync(path);
      // Some kernels do not let users without capabilities open the pin.
      if (shown.stderr.includes("cannot open the link pinned")) return;
      expect(shown.exitCode).toBe(0);
      expect(shown.stderr).toMatch(
        /^(owners among \d+ processes of other users are not shown.*\n)?$/,
      );
      expect(shown.stdout).toMatch(new RegExp(`^program: +${info.programId}$`, "m"));
      // The kernel reports the targets of links since 5.13.
      if (info.targetId !== undefined) {
        expect(privileged).toMatch(/^target: +\w+ \(trace_fentry\)$/m);
        expect(shown.stdout).toMatch(/^target: +type \d+ of BTF or program \d+ \(trace_fentry\)$/m);
      }
      expect(json.stderr).toBe("");
      const shownJson = JSON.parse(json.stdout) as Shown;
      expect(shownJson).toMatchObject({ id: info.id, type: "tracing", pins: [path] });
      expect(Object.keys(shownJson)).not.toContain("targetName");
    },
  );

  bpfTest("to removed targets are shown as such", async () => {
    using program = newProgram("cli_gone");
    const link = program.attach();
    const { id } = link.info();
    link[Symbol.dispose]();
    const { stderr, exitCode } = await cli(["link", "show", id]);
    expect({ stderr, exitCode }).toEqual({
      stderr: `bun-bpf: there is no link with the id ${id}\n`,
      exitCode: 1,
    });
  });
});

testUnless(bpfObstacle ?? mountObstacle)(
  "a pin of another kind is an error that names the command to show it",
  async () => {
    using bpffs = new MountedBpffs();
    using map = new HashMap({ key: t.u32, value: t.u64, maxEntries: 4, name: "cli_pinned" });
    using nameless = new HashMap({ key: t.u32, value: t.u64, maxEntries: 4 });
    using program = newProgram("cli_other");
    using link = program.attach();
    const pins = [
      ["map", map, "a map (cli_pinned, id"],
      ["map", nameless, "a map (hash, id"],
      ["prog", program, "a program (cli_other, id"],
      ["link", link, "a link (raw_tracepoint, id"],
    ] as const;
    const commands = [
      ["map", "show", "map"],
      ["map", "dump", "map"],
      ["prog", "show", "program"],
      ["link", "show", "link"],
    ] as const;
    for (const [kind, object, described] of pins) {
      const path = join(bpffs.path, `${kind}${object.id}`);
      object.pin(path);
      try {
        for (const [group, command, noun] of commands) {
          if (group === kind) continue;
          expect(await cli([group, command, path])).toMatchObject({
            stdout: "",
            stderr: `bun-bpf: the object pinned at ${path} is not a ${noun} but ${described} ${object.id}): \`bun-bpf ${kind} show ${path}\` shows it\n`,
            exitCode: 1,
          });
        }
        expect(await cliJson<Shown>([kind, "show", path])).toMatchObject({ id: object.id });
      } finally {
        object.unpin(path);
      }
    }
  },
);

testUnless(bpfObstacle ?? bpftoolObstacle)(
  "prog show and link show agree with bpftool",
  async () => {
    using map = new HashMap({ key: t.u32, value: t.u64, maxEntries: 4 });
    using program = newProgram("cli_compared", { map });
    using link = program.attach();
    const { id } = program.info();
    const [theirs, theirLink] = await Promise.all([
      bpftoolJson<Record<string, unknown>>("prog", "show", "id", `${id}`),
      bpftoolJson<Record<string, unknown>>("link", "show", "id", `${link.info().id}`),
    ]);
    const ours = await cliJson<Shown>(["prog", "show", id]);
    expect([
      ours["name"],
      ours["tag"],
      ours["gpl"],
      ours["uid"],
      ours["translatedSize"],
      ours["jitedSize"],
      ours["memory"],
      ours["mapIds"],
    ]).toEqual([
      theirs["name"],
      theirs["tag"],
      theirs["gpl_compatible"],
      theirs["uid"],
      theirs["bytes_xlated"],
      theirs["bytes_jited"] ?? 0,
      theirs["bytes_memlock"],
      theirs["map_ids"],
    ] as never);
    const ourLink = await cliJson<Shown>(["link", "show", link.info().id]);
    expect([ourLink["programId"], ourLink["name"]]).toEqual([
      theirLink["prog_id"],
      theirLink["tp_name"],
    ] as never);
  },
);
