// From the start of examples/execsnoop.ts to "attached", and its peak memory; beside bpftrace's equivalent where that is
// installed and may run: bun bench/start.ts
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { median } from "./support/statistics.ts";

const rounds = 11;
const bpftraceProgram = `BEGIN { printf("attached\\n"); }
tracepoint:syscalls:sys_enter_execve { printf("%d %s ", pid, comm); join(args->argv); }`;

/** bpftrace wants tracefs mounted: where it is not, in a mount namespace of its own. */
const mountTracefs =
  "mountpoint -q /sys/kernel/tracing || mount -t tracefs tracefs /sys/kernel/tracing";
const withTracefs = ["unshare", "-m", "sh", "-c", `${mountTracefs}; exec "$0" "$@"`];

interface Candidate {
  readonly name: string;
  readonly command: readonly string[];
  /** What it prints once it is attached. */
  readonly sign: string;
  readonly milliseconds: number[];
  readonly kibibytes: number[];
}

function candidate(name: string, command: readonly string[], sign: string): Candidate {
  return { name, command, sign, milliseconds: [], kibibytes: [] };
}

const candidates = [
  candidate(
    "execsnoop.ts",
    [process.execPath, join(import.meta.dir, "../examples/execsnoop.ts")],
    "ARGS",
  ),
  ...(Bun.which("bpftrace") === null
    ? []
    : [
        candidate(
          "bpftrace",
          [...withTracefs, "bpftrace", "-B", "line", "-e", bpftraceProgram],
          "attached",
        ),
      ]),
];

/** Whether it got as far as being attached. */
async function start({ command, sign, milliseconds, kibibytes }: Candidate): Promise<boolean> {
  const started = Bun.nanoseconds();
  const child = Bun.spawn([...command], { stdout: "pipe", stderr: "ignore", stdin: "ignore" });
  let text = "";
  for await (const chunk of child.stdout) {
    text += Buffer.from(chunk).toString();
    if (text.includes(sign)) break;
  }
  const isAttached = text.includes(sign);
  if (isAttached) {
    milliseconds.push((Bun.nanoseconds() - started) / 1e6);
    const status = readFileSync(`/proc/${child.pid}/status`, "utf8");
    kibibytes.push(Number(/^VmHWM:\s+(\d+) kB$/m.exec(status)?.[1]));
  }
  child.kill("SIGKILL");
  await child.exited;
  return isAttached;
}

const refused = new Set<Candidate>();
// In turn, so that all see the same weather on a shared machine.
for (let round = 0; round < rounds; round++) {
  for (const each of candidates) {
    if (!refused.has(each) && !(await start(each))) refused.add(each);
  }
}

console.log(`start to "attached", and peak memory: medians of ${rounds} rounds\n`);
for (const each of candidates) {
  const { name, milliseconds, kibibytes } = each;
  const figures = refused.has(each)
    ? "does not run here"
    : `${median(milliseconds).toFixed(0)} ms, ${(median(kibibytes) / 1024).toFixed(0)} MiB`;
  console.log(`${name.padEnd(14)}${figures}`);
}
