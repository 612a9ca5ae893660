/** Tests of `bun-bpf prog attach`. */
import { describe, expect, setDefaultTimeout } from "bun:test";
import { join } from "node:path";
import { ArrayMap, asm, BpfFileSystem, listLinks, Program, t } from "../../src/index.ts";
import { MountedBpffs, mountObstacle } from "../inspect/mounted_bpffs.ts";
import { bpfObstacle, bpfTest } from "../support/privilege.ts";
import { testUnless } from "../support/skipping.ts";
import { cli, cliJson, cliText, commandTimeout, mainFile } from "./run_cli.ts";

setDefaultTimeout(commandTimeout);

const { r0, r1, r2, fp } = asm;

/** A program that counts the programs that are executed. The command attaches it: this process opens no link. */
class ExecCounter implements Disposable {
  readonly #counts = new ArrayMap({ value: t.u64, length: 1 });
  readonly program: Program;

  constructor(section: "raw_tp" | "tp" = "raw_tp") {
    this.program = new Program({
      section,
      license: "GPL",
      name: "cli_execs",
      maps: { counts: this.#counts },
      code: [
        ...[asm.stw(fp, -4, 0), asm.ldMap(r1, "counts"), asm.mov(r2, fp), asm.add(r2, -4)],
        ...[asm.call("map_lookup_elem"), asm.jeq(r0, 0, "out"), asm.mov(r1, 1)],
        ...[asm.atomicAdd(r0, 0, r1), asm.label("out"), asm.mov(r0, 0), asm.exit()],
      ],
    });
  }

  /** Executes a program, and returns true if that was counted. */
  counts(): boolean {
    const before = this.#counts.get(0);
    Bun.spawnSync(["/bin/true"]);
    return this.#counts.get(0) !== before;
  }

  /** Waits until the program has no link: the kernel frees links a moment after their last descriptor is closed. */
  async detached(): Promise<void> {
    const { id } = this.program;
    while ([...listLinks()].some(({ programId }) => programId === id)) await Bun.sleep(5);
  }

  [Symbol.dispose](): void {
    this.program[Symbol.dispose]();
    this.#counts[Symbol.dispose]();
  }
}

/** The JSON output of the command. */
interface Attached {
  readonly programId: number;
  readonly section: string;
  readonly linkId?: number;
  readonly path?: string;
}

testUnless(bpfObstacle ?? mountObstacle)(
  "with --pin, the program runs after the command has ended, until the pin is removed",
  async () => {
    using bpffs = new MountedBpffs();
    using counter = new ExecCounter();
    const { id } = counter.program;
    const path = join(bpffs.path, "link");
    const section = "raw_tp/sched_process_exec";
    const attached = await cliJson<Attached>(["prog", "attach", id, section, "--pin", path]);
    expect(attached).toEqual({ programId: id, section, linkId: expect.any(Number) as never, path });
    expect(counter.counts()).toBe(true);
    expect((await cli(["link", "show", path])).stdout).toMatch(/^target: +sched_process_exec$/m);
    await cliText(["link", "unpin", path]);
    await counter.detached();
    expect(counter.counts()).toBe(false);
  },
);

describe("without --pin", () => {
  bpfTest("the program runs until a signal ends the command", async () => {
    using counter = new ExecCounter();
    const { id } = counter.program;
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
      const args = ["prog", "attach", `${id}`, "raw_tp", "tracepoint=sched_process_exec", "--json"];
      const child = Bun.spawn([process.execPath, mainFile, ...args], {
        stdout: "pipe",
        stderr: "pipe",
      });
      const { value } = await child.stdout.getReader().read();
      expect(JSON.parse(new TextDecoder().decode(value))).toMatchObject({ programId: id });
      expect(counter.counts()).toBe(true);
      child.kill(signal);
      await child.exited;
      expect({ exitCode: child.exitCode, stderr: await child.stderr.text() }).toEqual({
        exitCode: 0,
        stderr: "",
      });
      await counter.detached();
      expect(counter.counts()).toBe(false);
    }
  });

  bpfTest("the program runs until the end of --duration", async () => {
    using counter = new ExecCounter("tp");
    const run = cliJson<Attached>([
      ...["prog", "attach", counter.program.id, "tp", "tracepoint=sched/sched_process_exec"],
      ...["--duration", "0.5"],
    ]);
    let isAttached = false;
    while (!isAttached) isAttached = counter.counts();
    await run;
    await counter.detached();
    // Linux before 5.15 has no links of perf events, so the descriptor of the event may be closed a moment later.
    while (counter.counts()) await Bun.sleep(5);
  });
});

describe("an error names", () => {
  bpfTest("what is wrong with the section, an option or its value", async () => {
    using program = new Program({
      section: "raw_tp",
      license: "GPL",
      name: "cli_attach",
      code: [asm.mov(r0, 0), asm.exit()],
    });
    const { id } = program;
    for (const [args, status, message] of [
      [["raw_tpp"], 2, 'section: unknown "raw_tpp": did you mean "raw_tp"?'],
      [["xdp"], 2, 'its type is raw_tracepoint, and programs of section "xdp" are xdp'],
      [["raw_tp"], 2, "attach: tracepoint: expected a target of the form "],
      [["raw_tp", "tracpoint=a"], 2, 'unknown option "tracpoint": did you mean "tracepoint"?'],
      [["raw_tp", "sched_switch"], 2, "Expected <name>=<value>, such as interface=lo."],
      [["raw_tp", "cookie=1", "cookie=2"], 2, "The option cookie is given twice."],
      [["raw_tp/sched_switch", "cookie=x"], 2, 'cookie: Expected an integer, got "x".'],
      [["raw_tp/sched_switch", "cookie=-1"], 2, 'cookie: Expected an integer, got "-1".'],
      [["raw_tp", "tracepoint=[1"], 2, "tracepoint: expected JSON: "],
      [["raw_tp", "tracepoint=5"], 2, "expected a target of the form "],
      [["raw_tp", "tracepoint=a,b"], 2, "expected a target of the form "],
      [["raw_tp", "tracepoint=sched_swich"], 1, 'did you mean "sched_switch"?'],
      [["raw_tp/sched_switch", "--duration", "0"], 2, "Expected a number of seconds"],
      [["raw_tp/sched_switch", "--keep", "--pin", "/x/y"], 2, "cannot be used with option"],
      [["raw_tp/sched_switch", "--keep"], 2, "use --pin <path> instead of --keep"],
    ] as const) {
      const { stdout, stderr, exitCode } = await cli(["prog", "attach", id, ...args]);
      expect({ args, stdout, exitCode }).toEqual({ args, stdout: "", exitCode: status });
      expect(stderr).toContain(message);
      expect(stderr.trimEnd().split("\n")).toHaveLength(1);
    }
    expect([...listLinks()].filter(({ programId }) => programId === id)).toEqual([]);
  });

  bpfTest("--pin, if the link of a tracepoint would end with the command", async () => {
    using counter = new ExecCounter("tp");
    const args = ["prog", "attach", counter.program.id, "tp/sched/sched_process_exec", "--keep"];
    const { stderr, exitCode } = await cli(args);
    expect(exitCode).toBe(2);
    expect(stderr).toContain("ends with this command");
    while (counter.counts()) await Bun.sleep(5);
  });

  bpfTest(
    "the pin, and detaches the program, if the path is not on a BPF file system",
    async () => {
      using counter = new ExecCounter();
      const { id } = counter.program;
      const path = join(import.meta.dir, "pin");
      const args = ["prog", "attach", id, "raw_tp/sched_process_exec", "--pin", path];
      const { stderr, exitCode } = await cli(args);
      expect(exitCode).toBe(1);
      expect(stderr).toContain("A pin must be on a BPF file system");
      await counter.detached();
      expect(counter.counts()).toBe(false);
    },
  );
});

bpfTest(
  "`link detach` names the pins and processes that hold a link without detaching",
  async () => {
    using bpffs = new BpfFileSystem();
    using counter = new ExecCounter();
    using link = counter.program.attachAs("raw_tp/sched_process_exec");
    const path = `/proc/${process.pid}/fd/${/\d+$/.exec(bpffs.path)?.[0]}/link`;
    link.pin(path);
    for (const reference of [link.id, path]) {
      const { stderr, exitCode } = await cli(["link", "detach", reference]);
      expect(exitCode).toBe(1);
      expect(stderr).toMatch(
        /^bun-bpf: cannot detach the raw_tracepoint link to sched_process_exec: /,
      );
      expect(stderr).toContain(`end bun`);
      expect(stderr).toContain(`(${process.pid})`);
    }
    expect(counter.counts()).toBe(true);
    const absent = await cli(["link", "detach", "4294967295"]);
    expect(absent.stderr).toContain("4294967295");
    expect(absent.exitCode).toBe(1);
  },
);
