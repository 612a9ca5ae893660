// Run time of whole processes that use the installed package, compared with a bare Bun; and execsnoop with a millisecond of
// tracing, compared with the same in bpftrace, if that is installed and can run: bun bench/start.ts [ROUNDS]
import { cpSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { median, medianRatio } from "./support/statistics.ts";

const rounds = Number(process.argv[2] ?? 21);
const root = join(import.meta.dir, "..");

const folder = mkdtempSync(join(tmpdir(), "start-"));
process.on("exit", () => rmSync(folder, { recursive: true }));

/** The package as it is installed, except for the sources of the command. */
const installed = join(folder, "node_modules/bun-bpf");
for (const name of ["package.json", "src", "examples"]) {
  cpSync(join(root, name), join(installed, name), { recursive: true });
}
run([process.execPath, join(root, ".ci/bundle_library.ts"), join(installed, "dist")]);

const scripts = {
  "empty.ts": "",
  "import.ts": `import { HashMap, t } from "bun-bpf";
if (HashMap === undefined || t === undefined) throw new Error("nothing is imported");
`,
  "map.ts": `import { HashMap, t } from "bun-bpf";
using map = new HashMap({ key: t.u32, value: t.u64, maxEntries: 4 });
if (map.set(1, 2n).get(1) !== 2n) throw new Error("the map does not work");
`,
};
for (const [name, text] of Object.entries(scripts)) await Bun.write(join(folder, name), text);

const bpftraceProgram = `tracepoint:syscalls:sys_enter_execve { printf("%d %s ", pid, comm); join(args->argv); }
interval:ms:1 { exit(); }`;

/** Mounts tracefs in a separate mount namespace if it is not mounted, because bpftrace needs it. */
const mountTracefs =
  "mountpoint -q /sys/kernel/tracing || mount -t tracefs tracefs /sys/kernel/tracing";
const withTracefs = ["unshare", "-m", "sh", "-c", `${mountTracefs}; exec "$0" "$@"`];

interface Candidate {
  readonly name: string;
  readonly command: readonly string[];
  readonly milliseconds: number[];
  readonly mebibytes: number[];
}

function candidate(name: string, ...command: string[]): Candidate {
  return { name, command, milliseconds: [], mebibytes: [] };
}

/** Runs a process and waits for its end. */
function run(command: readonly string[]): { milliseconds: number; mebibytes: number } {
  const started = Bun.nanoseconds();
  const { success, stderr, resourceUsage } = Bun.spawnSync([...command], {
    cwd: folder,
    stdin: "ignore",
    stdout: "ignore",
    stderr: "pipe",
  });
  const milliseconds = (Bun.nanoseconds() - started) / 1e6;
  if (!success) throw new Error(`${command.join(" ")}: ${stderr.toString()}`);
  return { milliseconds, mebibytes: resourceUsage.maxRSS / 2 ** 20 };
}

const bun = process.execPath;
const bare = candidate("bare Bun", bun, "empty.ts");
const execsnoop = candidate(
  "execsnoop.ts, 1 ms",
  bun,
  join(installed, "examples/execsnoop.ts"),
  "--duration",
  "0.001",
);
const bpftrace = candidate("bpftrace, 1 ms", ...withTracefs, "bpftrace", "-e", bpftraceProgram);
const candidates = [
  bare,
  candidate("import of t and HashMap", bun, "import.ts"),
  candidate("a map created and used", bun, "map.ts"),
  execsnoop,
  bpftrace,
];

const unavailable = new Set(Bun.which("bpftrace") === null ? [bpftrace] : []);
// The candidates run in turn, so that the load of other machines affects all alike. The first round fills caches.
for (let round = -1; round < rounds; round++) {
  for (const each of candidates) {
    if (unavailable.has(each)) continue;
    try {
      const { milliseconds, mebibytes } = run(each.command);
      if (round < 0) continue;
      each.milliseconds.push(milliseconds);
      each.mebibytes.push(mebibytes);
    } catch (error) {
      if (each !== bpftrace) throw error;
      unavailable.add(each);
    }
  }
}

console.log(
  `whole processes: medians of ${rounds} rounds; ratios are medians of the ratios of each round\n`,
);
for (const each of candidates) {
  const { name, milliseconds, mebibytes } = each;
  if (unavailable.has(each)) {
    console.log(`${name.padEnd(26)}does not run here`);
    continue;
  }
  const ratio = medianRatio(milliseconds, bare.milliseconds).toFixed(2);
  console.log(
    `${name.padEnd(26)}${median(milliseconds).toFixed(1).padStart(6)} ms  ${ratio.padStart(6)} x bare Bun  ${median(mebibytes).toFixed(0).padStart(4)} MiB`,
  );
}
if (!unavailable.has(bpftrace)) {
  const ratio = medianRatio(execsnoop.milliseconds, bpftrace.milliseconds).toFixed(2);
  console.log(`\nexecsnoop.ts takes ${ratio} times as long as bpftrace`);
}

run([bun, "build", "--target=bun", "--minify", "map.ts", "--outfile", "bundle.js"]);
const { size } = Bun.file(join(folder, "bundle.js"));
console.log(`\nthe script with the map has ${(size / 1000).toFixed(1)} kB, bundled and minified`);
