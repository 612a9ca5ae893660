/**
 * Lists the benchmarks, or runs some of them one after another.
 *
 *   bun run bench
 *   bun run bench NAME... [OPTION...]
 */
import { join } from "node:path";

/**
 * Benchmarks by the name of their file in this folder. All but `types` have a counterpart in C with libbpf, or in bpftrace
 * if that is installed.
 */
const benchmarks = {
  types: "decoding and encoding of types, compared with DataView",
  maps: "operations on one entry of a hash map",
  batches: "operations on many entries of a hash map",
  btf: "opening the kernel's BTF and finding types by name",
  attach: "attaching and detaching programs",
  start: "start-up time and memory of scripts, the package installed",
  ring: "all benchmarks of ring buffers, with the chart; about 15 minutes",
  ring_drain: "time per record of reading a full ring",
  ring_flood: "records per second from a producer that does not pause",
  ring_latency: "time from a record to the callback of a sleeping consumer",
  ring_idle: "CPU time and system calls of subscriptions without events",
  ring_memory: "memory of a consumer over 100 million records",
} as const;

const args = process.argv.slice(2);
const names = args.filter((arg) => !arg.startsWith("-"));
const options = args.filter((arg) => arg.startsWith("-"));
const unknown = names.find((name) => !Object.hasOwn(benchmarks, name));
const lines = Object.entries(benchmarks).map(([name, text]) => `  ${name.padEnd(14)}${text}`);
const help = `usage: bun run bench NAME... [OPTION...]

${lines.join("\n")}

Options are passed to each benchmark; those of ring buffers take --quick, --json and --help.`;

if (unknown !== undefined) {
  console.error(`unknown benchmark ${unknown}\n\n${help}`);
  process.exit(2);
}
if (names.length === 0) console.log(help);
for (const name of names) {
  console.error(`== ${name}`);
  const { exitCode } = Bun.spawnSync(
    [process.execPath, join(import.meta.dir, `${name}.ts`), ...options],
    {
      stdio: ["inherit", "inherit", "inherit"],
    },
  );
  // A signal, such as that of a crash, leaves no exit code.
  if (exitCode !== 0) process.exit(exitCode ?? 1);
}
