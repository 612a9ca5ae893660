import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import {
  copyFileSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { HashMap, objectOwners, t } from "../../src/index.ts";
import { commandObstacle } from "../support/commands.ts";
import { mountObstacle } from "../support/hidden_folder.ts";
import { repetitions } from "../support/effort.ts";
import { bpfObstacle, bpfTest } from "../support/privilege.ts";
import { packageRoot, run, runBun } from "../support/run.ts";
import { hostTest, isGuest, testUnless } from "../support/skipping.ts";

const script = join(packageRoot, "examples/execsnoop.ts");

interface Started {
  readonly time: string;
  readonly pid: number;
  readonly ppid: number;
  readonly uid: number;
  readonly comm: string;
  readonly filename: string;
  readonly args: readonly string[];
  readonly argsCutOff?: boolean;
  readonly ret?: number;
  readonly error?: string;
}

let folder = "";
/** The path of a program that only these tests start. */
let marked = "";

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "execsnoop-"));
  marked = join(folder, "marked");
  copyFileSync("/bin/true", marked);
});

afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Starts the script in the background, and resolves when it has attached its programs. */
function start(...args: string[]) {
  return startWith({}, ...args);
}

async function startWith(env: Record<string, string>, ...args: string[]) {
  const child = Bun.spawn([process.execPath, script, ...args], {
    env: { ...process.env, ...env },
    stdout: "pipe",
    stderr: "pipe",
    stdin: "ignore",
    timeout: 60_000,
  });
  const reader = child.stdout.getReader();
  const decoder = new TextDecoder();
  let text = "";
  const more = async (): Promise<boolean> => {
    const { done, value } = await reader.read();
    if (!done) text += decoder.decode(value, { stream: true });
    return !done;
  };
  const until = async (wanted: string): Promise<void> => {
    while (!text.includes(wanted)) {
      if (!(await more())) throw new Error(`it ended without "${wanted}": ${text}`);
    }
  };
  if (args.includes("--json")) {
    // There is no heading with --json: starts programs until the first one is shown.
    let isSeen = false;
    const seen = until("ready?").finally(() => (isSeen = true));
    while (!isSeen) {
      const start = performance.now();
      Bun.spawnSync([marked, "ready?"]);
      // Waits, so that the script gets most of the processor even if this machine starts programs slowly.
      await Promise.race([seen, Bun.sleep(5 * (performance.now() - start))]);
    }
    await seen;
  } else {
    await until("ARGS");
  }
  const finish = async (signal: NodeJS.Signals) => {
    child.kill(signal);
    while (await more());
    await child.exited;
    const stderr = await child.stderr.text();
    return { stdout: text, stderr, exitCode: child.exitCode };
  };
  return { pid: child.pid, child, until, finish };
}

function records(stdout: string): Started[] {
  return stdout
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line) as Started);
}

describe("execsnoop", () => {
  bpfTest("shows a program that starts", async () => {
    const snoop = await start("--json");
    const child = Bun.spawn([marked, "one", "two words", "ünï"], { stdout: "ignore" });
    await child.exited;
    await snoop.until("two words");
    const { stdout, stderr, exitCode } = await snoop.finish("SIGINT");
    expect(exitCode).toBe(0);
    expect(stderr).toMatch(/^\d+ seen, 0 lost\n$/);
    const record = records(stdout).find(({ args }) => args[1] === "one");
    expect(record).toMatchObject({
      pid: child.pid,
      ppid: process.pid,
      uid: process.getuid?.() ?? 0,
      comm: "marked",
      filename: marked,
      args: [marked, "one", "two words", "ünï"],
    });
    const age = Date.now() - Date.parse(record?.time ?? "");
    expect(Math.abs(age)).toBeLessThan(60_000);
  });

  bpfTest("says that arguments are cut off", async () => {
    const snoop = await start("--json");
    Bun.spawnSync([marked, "x".repeat(2000), "end"]);
    await snoop.until("xxx");
    const { stdout } = await snoop.finish("SIGINT");
    const record = records(stdout).find(({ args }) => args[1]?.startsWith("xxx"));
    expect(record?.argsCutOff).toBe(true);
    expect(record?.args.join("\0").length).toBe(1024);
  });

  bpfTest("keeps all bytes that are not UTF-8 in JSON", async () => {
    const snoop = await start("--json");
    const line = `odd=$(printf '${folder}/caf\\351'); cp "${marked}" "$odd"; exec "$odd" "$(printf 'a\\377')" "ünï" after`;
    Bun.spawnSync(["sh", "-c", line]);
    Bun.spawnSync([marked, "all of it is text"]);
    await snoop.until("all of it");
    const { stdout } = await snoop.finish("SIGINT");
    const bytesOf = (text: string) => Buffer.from(text, "latin1").toString("hex");
    const filenameBytes = bytesOf(`${folder}/caf\xe9`);
    expect(records(stdout).find(({ args }) => args[3] === "after")).toMatchObject({
      comm: "caf\ufffd",
      commBytes: bytesOf("caf\xe9"),
      filename: `${folder}/caf\ufffd`,
      filenameBytes,
      args: [`${folder}/caf\ufffd`, "a\ufffd", "ünï", "after"],
      argsBytes: [filenameBytes, "61ff", Buffer.from("ünï").toString("hex"), bytesOf("after")],
    });
    const text = records(stdout).find(({ args }) => args[1] === "all of it is text");
    expect(Object.keys(text ?? {}).filter((key) => key.endsWith("Bytes"))).toEqual([]);
  });

  bpfTest("escapes terminal sequences in JSON", async () => {
    const snoop = await start("--json");
    const evil = "\u009b31m\u001b[31m\u007f\u202eb\u2028\u{e0041}";
    Bun.spawnSync([marked, evil, "last"]);
    await snoop.until('"last"');
    const { stdout } = await snoop.finish("SIGINT");
    expect(stdout).not.toMatch(/(?!\n)[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u);
    expect(stdout).toContain("\\u009b31m\\u001b[31m\\u007f\\u202eb\\u2028\\udb40\\udc41");
    expect(records(stdout).find(({ args }) => args[2] === "last")?.args[1]).toBe(evil);
  });

  testUnless(bpfObstacle ?? commandObstacle("script") ?? commandObstacle("stty"))(
    "cuts the heading to a narrow terminal, and prints the last line without red",
    async () => {
      const command = `stty cols 50; exec env -u NO_COLOR -u FORCE_COLOR -u CI TERM=xterm "${process.execPath}" "${script}" --duration 0.3`;
      const { stdout } = await run(["script", "-qec", command, "/dev/null"]);
      const lines = stdout.split("\r\n");
      expect(lines[0]).toBe("\u001b[1mTIME             PID    PPID   UID COMM\u001b[0m");
      expect(lines.at(-2)).toMatch(/^\d+ seen, \d+ lost$/);
    },
  );

  bpfTest("shows failed attempts with the error", async () => {
    const snoop = await start("--json", "--failed");
    const missing = join(folder, "missing");
    Bun.spawnSync(["bash", "-c", `exec ${missing} first second`], { stderr: "ignore" });
    Bun.spawnSync(["bash", "-c", `exec ${folder} third`], { stderr: "ignore" });
    await snoop.until("third");
    Bun.spawnSync([marked, "last"]);
    await snoop.until('"last"');
    const { stdout } = await snoop.finish("SIGINT");
    const all = records(stdout);
    expect(all.find(({ args }) => args[1] === "first" && args[0] === missing)).toMatchObject({
      filename: missing,
      comm: "bash",
      args: [missing, "first", "second"],
      error: "ENOENT",
    });
    expect(all.find(({ filename }) => filename === folder)?.error).toBe("EACCES");
    expect(all.find(({ args }) => args[1] === "last")?.ret).toBe(0);
  });

  bpfTest("says if arguments of a failed attempt are cut off", async () => {
    const snoop = await start("--json", "--failed");
    const missing = join(folder, "missing");
    const attempt = (...args: string[]) =>
      Bun.spawnSync(["bash", "-c", 'exec "$@"', "bash", missing, ...args], { stderr: "ignore" });
    const numbers = Array.from({ length: 30 }, (_, index) => `${index}`);
    attempt("fits", "x".repeat(127));
    attempt("long", "x".repeat(128), "more");
    attempt("few", ...numbers.slice(0, 18));
    attempt("many", ...numbers.slice(0, 19));
    attempt("wide", ...Array.from({ length: 10 }, () => "y".repeat(120)));
    attempt("end");
    await snoop.until('"end"');
    const { stdout } = await snoop.finish("SIGINT");
    const of = (name: string) =>
      records(stdout).find(({ filename, args }) => filename === missing && args[1] === name);
    expect(of("fits")).toMatchObject({ args: [missing, "fits", "x".repeat(127)] });
    expect(of("fits")?.argsCutOff).toBeUndefined();
    expect(of("long")?.args).toEqual([missing, "long", "x".repeat(127), "more"]);
    expect(of("long")?.argsCutOff).toBe(true);
    expect(of("few")?.args).toHaveLength(20);
    expect(of("few")?.argsCutOff).toBeUndefined();
    expect(of("many")?.args).toHaveLength(20);
    expect(of("many")?.argsCutOff).toBe(true);
    expect(of("wide")?.argsCutOff).toBe(true);
    expect(of("end")?.argsCutOff).toBeUndefined();
  });

  bpfTest(
    "deletes the attempt of a thread that becomes the first of its process",
    async () => {
      const child = join(folder, "exec_in_thread.ts");
      // exec(2) has to be called by a thread that is not the first one of its process.
      writeFileSync(
        child,
        `import { dlopen, ptr } from "bun:ffi";
        if (Bun.isMainThread) new Worker(import.meta.path);
        else {
          const { execv } = dlopen("${libc}", { execv: { args: ["ptr", "ptr"], returns: "i32" } }).symbols;
          const text = Buffer.from("${marked}\0thread\0");
          const argv = new BigUint64Array([BigInt(ptr(text)), BigInt(ptr(text, ${marked.length + 1})), 0n]);
          execv(ptr(text), ptr(argv));
        }`,
      );
      const snoop = await start("--json", "--failed");
      using attempts = attemptsOf(snoop.pid);
      for (let i = 0; i < 10; i++) Bun.spawnSync([process.execPath, child]);
      await snoop.until('"thread"');
      // Other processes on this machine may be in exec(2) now.
      const deadline = Date.now() + 2000;
      while (attempts.count() > 0 && Date.now() < deadline) await Bun.sleep(10);
      expect(attempts.count()).toBe(0);
      const { stdout } = await snoop.finish("SIGINT");
      const seen = records(stdout).filter(({ args }) => args[1] === "thread");
      expect(seen).toHaveLength(10);
      expect(new Set(seen.map(({ ret }) => ret))).toEqual(new Set([0]));
    },
    30_000,
  );

  bpfTest("quotes arguments for bash, without characters that a terminal interprets", async () => {
    const texts = [
      "it's",
      "",
      "a\nb\tc",
      "\u001b[31mred",
      "\u202eabc",
      "\u2028",
      "\u{e0001}",
      "\\",
      "ünï",
      "\u0085x",
    ];
    // A shell makes the bytes that are not UTF-8, because Bun's arguments are text.
    const words = texts.map((text) => `'${text.replaceAll("'", "'\\''")}'`).join(" ");
    const snoop = await start("--name", "^marked$");
    Bun.spawnSync(["bash", "-c", `exec ${marked} ${words} $'\\xff\\xe2\\x82z' 'end'`]);
    await snoop.until(" end\n");
    const { stdout } = await snoop.finish("SIGINT");
    const line = stdout.split("\n").find((text) => text.includes(" end")) ?? "";
    expect(line).toContain("$'\\xff\\xe2\\x82z'");
    expect(line).toContain("$'a\\nb\\tc'");
    expect(line).toContain("$'\\u202eabc'");
    expect(line).not.toMatch(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u);
    const command = line.slice(line.indexOf(marked) + marked.length);
    const { stdout: bytes } = Bun.spawnSync(["bash", "-c", `printf '%s\\0' ${command}`], {
      env: { ...process.env, LC_ALL: "C.UTF-8" },
    });
    const expected = Buffer.concat([
      Buffer.from([marked, ...texts, ""].join("\0")),
      Buffer.from([0xff, 0xe2, 0x82, 0x7a, 0]),
      Buffer.from("end\0"),
    ]);
    expect(bytes.toString("hex")).toBe(expected.toString("hex"));
  });

  bpfTest("prints aligned columns, without colours if the output is not a terminal", async () => {
    const snoop = await start("--name", "^marked$");
    Bun.spawnSync([marked, "plain", "\u001b[31mred"]);
    Bun.spawnSync(["/bin/true", "other"]);
    await snoop.until("plain");
    const { stdout, stderr } = await snoop.finish("SIGTERM");
    const [heading = "", line = "", ...rest] = stdout.trimEnd().split("\n");
    expect(rest).toEqual([]);
    expect(stdout).not.toContain("\u001b");
    expect(heading).toMatch(/^TIME +PID +PPID +UID +COMM +FILENAME +ARGS$/);
    expect(line).toContain("plain $'\\x1b[31mred'");
    expect(line.indexOf("marked")).toBe(heading.indexOf("COMM"));
    expect(line.indexOf(marked)).toBe(heading.indexOf("FILENAME"));
    expect(stderr).toMatch(/^\d+ seen \(1 shown\), 0 lost\n$/);
  });

  testUnless(bpfObstacle ?? commandObstacle("script"))(
    "colours its heading on a terminal",
    async () => {
      const command = `${process.execPath} ${script} --duration 0.5`;
      const { stdout } = await run(["script", "-qec", command, "/dev/null"], {
        env: { NO_COLOR: "" },
      });
      expect(stdout).toContain("\u001b[1mTIME");
      const plain = await run(["script", "-qec", command, "/dev/null"], { env: { NO_COLOR: "1" } });
      expect(plain.stdout).not.toContain("\u001b[1m");
    },
  );

  bpfTest("ends by itself after --duration", async () => {
    const { exitCode, stderr } = await runBun([script, "--json", "--duration", "0.3"]);
    expect(exitCode).toBe(0);
    expect(stderr).toMatch(/^\d+ seen, 0 lost\n$/);
  });

  bpfTest("ends without an error when its reader closes the pipe", async () => {
    const command = `${process.execPath} ${script} --duration 20 | head -1`;
    const bash = run(["bash", "-c", `${command}; echo \${PIPESTATUS[0]}`]);
    const timer = setInterval(() => Bun.spawnSync([marked]), 50);
    const { stdout, stderr } = await bash;
    clearInterval(timer);
    expect(stdout).toMatch(/ARGS\n0\n$/);
    expect(stderr).toMatch(/^\d+ seen, 0 lost\n$/);
  });

  bpfTest(
    "writes all lines completely to a slow reader",
    async () => {
      const slow = join(folder, "slow");
      // More than the capacity of the pipe.
      const total = repetitions(400, 90);
      const text = "z".repeat(900);
      const interrupted = join(folder, "interrupted");
      // The reader starts to read after all programs have started and the script was interrupted.
      const reader = `until [ -e ${interrupted} ]; do sleep 0.05; done; cat >${slow}.part; mv ${slow}.part ${slow}`;
      const command = `exec ${process.execPath} ${script} --json --name '^marked$' > >(${reader})`;
      const child = Bun.spawn(["bash", "-c", command], {
        stdout: "ignore",
        stderr: "pipe",
        timeout: 20_000,
      });
      await attachedBy(child.pid);
      for (let i = 1; i <= total; i++) Bun.spawnSync([marked, text, `${i}`]);
      child.kill("SIGINT");
      await Bun.sleep(500);
      writeFileSync(interrupted, "");
      expect(await child.exited).toBe(0);
      const stderr = await child.stderr.text();
      while (!existsSync(slow)) await Bun.sleep(20);
      const lines = readFileSync(slow, "utf8");
      expect(lines.endsWith("\n")).toBe(true);
      // All lines can be parsed, so none is cut off.
      const seen = records(lines).filter(({ args }) => args[1] === text);
      expect(seen.map(({ args }) => Number(args[2]))).toEqual(
        Array.from({ length: total }, (_, index) => index + 1),
      );
      expect(stderr).toContain(`(${total} shown), 0 lost`);
    },
    30_000,
  );

  bpfTest("ends at once at the second Ctrl-C, although its output is not read", async () => {
    // A pipe without a reader, and more lines than its capacity.
    const child = Bun.spawn(
      ["bash", "-c", `exec ${process.execPath} ${script} > >(exec sleep 20)`],
      {
        stdout: "ignore",
        stderr: "pipe",
        timeout: 20_000,
      },
    );
    await attachedBy(child.pid);
    for (let i = 0; i < repetitions(400, 90); i++) Bun.spawnSync([marked, "w".repeat(900)]);
    child.kill("SIGINT");
    await Bun.sleep(500);
    expect(child.exitCode).toBe(null);
    child.kill("SIGINT");
    expect(await child.exited).toBe(130);
  });

  bpfTest("fails with a message if it cannot write", async () => {
    const bash = await run([
      "bash",
      "-c",
      `${process.execPath} ${script} --duration 20 >/dev/full`,
    ]);
    expect(bash.exitCode).toBe(1);
    expect(bash.stderr).toMatch(/^execsnoop: cannot write to standard output: ENOSPC.*\n$/);
  });

  bpfTest(
    "counts lost events",
    async () => {
      const snoop = await start("--json", "--name", "^marked$", "--buffer", "0.125");
      process.kill(snoop.pid, "SIGSTOP");
      // Each record takes 1.2 KiB.
      const total = 150;
      const loop = `i=0; while [ $i -lt ${total} ]; do ${marked} flood; i=$((i+1)); done`;
      expect(Bun.spawnSync(["sh", "-c", loop]).exitCode).toBe(0);
      process.kill(snoop.pid, "SIGCONT");
      const { stdout, stderr } = await snoop.finish("SIGINT");
      const flood = records(stdout).filter(({ args }) => args[1] === "flood").length;
      const [, seen, lost] = /^(\d+) seen .*, (\d+) lost\n$/.exec(stderr) ?? [];
      expect(Number(lost)).toBeGreaterThan(0);
      // Other programs on this machine start meanwhile, too, such as the shell.
      expect(flood + Number(lost)).toBeGreaterThanOrEqual(total);
      expect(Number(seen)).toBeGreaterThanOrEqual(flood);
    },
    60_000,
  );

  const traceTest = testUnless(bpfObstacle ?? commandObstacle("strace"));

  // The empty string selects the best way that this system has.
  for (const loop of ["", "aio"] as const) {
    const woken = loop === "" ? "by default" : `by ${loop}`;
    bpfTest(
      `uses no processor time while no program starts, woken ${woken}`,
      async () => {
        const { idle, [loop]: snoop } = await measureWaiting();
        // Bun's garbage collection once a second may take a few switches. A timer of this library would run at least five
        // times a second, and exceed the limit.
        expect(snoop.switches).toBeLessThanOrEqual(idle.switches + 15 + 10 * snoop.seen);
        // At most 0.5% of three seconds more than an idle Bun, and 10 ms for each line; more on an emulated processor, where the
        // check above still finds a timer.
        const allowed = idle.nanoseconds + (isGuest ? 60e6 : 15e6) + 10e6 * snoop.seen;
        expect(snoop.nanoseconds).toBeLessThanOrEqual(allowed);
      },
      30_000,
    );

    traceTest(
      `makes no system calls while no program starts, woken ${woken}`,
      async () => {
        const { idle, [loop]: snoop } = await measureWaiting();
        // strace has counted the calls of both processes.
        expect(snoop.calls.size).toBeGreaterThan(0);
        expect(idle.calls.size).toBeGreaterThan(0);
        for (const [name, calls] of snoop.calls) {
          const idleCalls = idle.calls.get(name) ?? 0;
          // A garbage collection may happen in only one of the processes. A timer of this library would make at least five
          // waits a second, which are not among the calls of housekeeping.
          const bun = housekeeping.has(name) ? 500 : idleCalls > 0 ? 6 : 0;
          // Another program may start meanwhile. Printing its event takes a few calls, the first time more for the time zone.
          const allowed = idleCalls + bun + 8 * snoop.seen + (snoop.seen > 0 ? 24 : 0);
          expect(calls, `${name}, where an idle Bun makes ${idleCalls}`).toBeLessThanOrEqual(
            allowed,
          );
        }
      },
      30_000,
    );
  }

  hostTest("has the help that the README shows", async () => {
    const { stdout, exitCode } = await runBun([script, "--help"]);
    expect(exitCode).toBe(0);
    expect(stdout).toContain("usage: bun execsnoop.ts [options]");
    expect(readFileSync(join(packageRoot, "docs/examples.md"), "utf8")).toContain(stdout);
  });

  bpfTest("lists all keys of its JSON in the help", async () => {
    const help = (await runBun([script, "--help"])).stdout;
    const snoop = await start("--json", "--failed");
    Bun.spawnSync(["sh", "-c", `exec "${marked}" "$(printf 'a\\377')" ${"x".repeat(2000)}`]);
    Bun.spawnSync(["sh", "-c", `exec ${join(folder, "missing")}`], { stderr: "ignore" });
    Bun.spawnSync([marked, "last"]);
    await snoop.until('"last"');
    const { stdout } = await snoop.finish("SIGINT");
    const keys = new Set(records(stdout).flatMap((record) => Object.keys(record)));
    expect([...keys]).toEqual(expect.arrayContaining(["argsBytes", "argsCutOff", "ret", "error"]));
    for (const key of keys) expect(help).toMatch(new RegExp(`\\b${key}\\b`));
  });

  hostTest("escapes its arguments in messages", async () => {
    for (const args of [["\u009b31m"], ["\u001b[31m"], ["--duration", "\u202e"]]) {
      const { stderr } = await runBun([script, ...args]);
      expect(stderr).toMatch(/\\(x1b|u009b|u202e)/);
      expect(stderr).not.toMatch(/(?!\n)[\p{Cc}\p{Cf}]/u);
    }
  });

  hostTest.each([
    [["--nmae", "x"], "nmae"],
    [["--name", "("], "regular expression"],
    [["--duration", "soon"], "--duration: expected seconds"],
    [["--duration", "-1"], "--duration"],
    [["--buffer", "3"], "--buffer: expected a power of two from 0.0625 to 1024, got 3"],
    [["--buffer", "2048"], "--buffer"],
    [["--buffer", "much"], "--buffer"],
    [["extra"], "extra"],
  ])("rejects %j with a line that names the mistake", async (args, reason) => {
    const { stderr, stdout, exitCode } = await runBun([script, ...args]);
    expect(exitCode).toBe(2);
    expect(stdout).toBe("");
    expect(stderr).toContain(reason);
    expect(stderr.trimEnd().split("\n")).toHaveLength(1);
  });

  hostTest("names the maximum duration", async () => {
    const { stderr } = await runBun([script, "--duration", "99999999"]);
    expect(stderr).toContain("at most 2147483");
  });

  test("rejects an unknown BUN_BPF_LOOP in a line", async () => {
    const { stderr, exitCode } = await runBun([script], { env: { BUN_BPF_LOOP: "magic" } });
    expect(exitCode).not.toBe(0);
    if (bpfObstacle === undefined) expect(stderr).toMatch(/^execsnoop: BUN_BPF_LOOP: .*\n$/);
  });

  const userObstacle = process.getuid?.() === 0 ? undefined : "this user is not root";
  testUnless(userObstacle ?? mountObstacle ?? bpfObstacle).each([
    ["type information", "mount -t tmpfs none /sys/kernel/btf", /cannot read .*BTF/],
    [
      "tracepoints",
      `mount -t tmpfs none /sys/kernel/debug; mount -t tmpfs none /sys/kernel/tracing &&
       mkdir /sys/kernel/tracing/events`,
      /no tracepoint syscalls\/sys_\w+_execve/,
    ],
  ])("reports a kernel without %s in a line", async (_, hide, message) => {
    const command = `{ ${hide}; } 2>/dev/null; exec "$@"`;
    const { stderr, stdout, exitCode } = await run(
      ["unshare", "-m", "sh", "-c", command, "sh", process.execPath, script, "--failed"],
      { timeout: 20_000 },
    );
    expect(stdout).toBe("");
    expect(stderr).toMatch(message);
    expect(stderr).toMatch(/^execsnoop: .*\n$/);
    expect(exitCode).toBe(1);
  });

  testUnless(userObstacle ?? commandObstacle("setpriv"))(
    "reports missing privilege in a line",
    async () => {
      const drop = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"];
      const { stderr, stdout, exitCode } = await run([...drop, process.execPath, script]);
      expect(exitCode).toBe(1);
      expect(stdout).toBe("");
      expect(stderr).toMatch(
        /^execsnoop: cannot create .*EPERM.* lacks CAP_BPF: run as root .*\n$/,
      );
    },
  );
});

/** Processor time of a waiting process in three seconds, and its system calls in the next three. */
interface Waiting {
  readonly nanoseconds: number;
  readonly switches: number;
  readonly calls: ReadonlyMap<string, number>;
  /** Programs that the script reported in this time. */
  readonly seen: number;
}

let waiting: Promise<Record<"idle" | "" | "aio", Waiting>> | undefined;

/** Measures an idle Bun and a script for each way to be woken, in parallel and once for all tests. */
function measureWaiting() {
  waiting ??= (async () => {
    const idle = startIdle();
    try {
      const snoops = [
        await startWith({ BUN_BPF_LOOP: "" }),
        await startWith({ BUN_BPF_LOOP: "aio" }),
      ];
      const pids = [idle.pid, ...snoops.map(({ pid }) => pid)];
      // All processes have warmed up, and only wait from now on.
      await Bun.sleep(1500);
      const before = pids.map(costOf);
      await Bun.sleep(3000);
      const after = pids.map(costOf);
      const canTrace = commandObstacle("strace") === undefined;
      const calls = canTrace ? await Promise.all(pids.map(countSystemCalls)) : [];
      const ended = await Promise.all(snoops.map((snoop) => snoop.finish("SIGINT")));
      const [own, byDefault, byAio] = pids.map((_, index): Waiting => ({
        nanoseconds: after[index]!.nanoseconds - before[index]!.nanoseconds,
        switches: after[index]!.switches - before[index]!.switches,
        calls: calls[index] ?? new Map(),
        seen: index === 0 ? 0 : ended[index - 1]!.stdout.split("\n").length - 2,
      }));
      return { idle: own!, "": byDefault!, aio: byAio! };
    } finally {
      idle.kill();
    }
  })();
  return waiting;
}

/** Returns the processor time of a process in nanoseconds, and the number of voluntary context switches. */
function costOf(pid: number): { nanoseconds: number; switches: number } {
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  const onProcessor = (thread: string) =>
    Number(readFileSync(`/proc/${pid}/task/${thread}/schedstat`, "utf8").split(" ")[0]);
  const threads = readdirSync(`/proc/${pid}/task`);
  return {
    nanoseconds: threads.reduce((sum, thread) => sum + onProcessor(thread), 0),
    switches: Number(/^voluntary_ctxt_switches:\s*(\d+)$/m.exec(status)?.[1]),
  };
}

/** Waits until a process has attached a program. */
async function attachedBy(pid: number): Promise<void> {
  const isAttached = () =>
    [...objectOwners().links.values()].some((owners) => owners.some((owner) => owner.pid === pid));
  while (!isAttached()) await Bun.sleep(20);
}

const libc = readFileSync("/proc/self/maps", "utf8").match(/\S*\/(?:libc\.so\.6|ld-musl-\S+)/)?.[0];

function startIdle() {
  return Bun.spawn([process.execPath, "-e", "setInterval(() => {}, 2 ** 30)"], {
    stdout: "ignore",
  });
}

/** System calls of Bun's garbage collector and allocator, which an idle process makes sometimes. */
const housekeeping = new Set(["futex", "madvise", "munmap", "sched_yield"]);

/** Counts the system calls of a process in three seconds, by name. */
async function countSystemCalls(pid: number): Promise<Map<string, number>> {
  const trace = join(folder, `trace.${pid}`);
  const strace = Bun.spawn(["strace", "-f", "-c", "-o", trace, "-p", `${pid}`], {
    stdout: "ignore",
    stderr: "ignore",
  });
  await Bun.sleep(3000);
  strace.kill("SIGINT");
  await strace.exited;
  // % time, seconds, usecs/call, calls, errors (or nothing), name
  const rows = readFileSync(trace, "utf8").matchAll(
    /^ *[\d.]+ +[\d.]+ +\d+ +(\d+) +(?:\d+ +)?(\w+)$/gm,
  );
  return new Map(
    [...rows]
      .map(([, calls, name]) => [name as string, Number(calls)] as const)
      .filter(([name]) => name !== "total"),
  );
}

/** Opens the map of attempts of a running script. */
function attemptsOf(pid: number) {
  const hashMap = 1;
  const ids = readdirSync(`/proc/${pid}/fdinfo`)
    .map((fd) => readFileSync(`/proc/${pid}/fdinfo/${fd}`, "utf8"))
    .filter((text) => new RegExp(`^map_type:\\s*${hashMap}$`, "m").test(text))
    .map((text) => Number(/^map_id:\s*(\d+)/m.exec(text)?.[1]));
  expect(ids).toHaveLength(1);
  return HashMap.fromId(ids[0] as number, {
    key: t.u64,
    value: t.struct({ filename: t.u64, argv: t.u64 }),
  });
}
