/**
 * Boots other kernels in emulated machines and runs the tests on them: `bun run test:kernels --help`.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { availableParallelism, homedir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import type { FeatureReport } from "../../src/cli/features_command.ts";
import { type KernelFeatures, writeTable } from "./feature_table.ts";
import type { GuestReport } from "./guest.ts";
import { systemArchive } from "./image.ts";
import { fetchKernel, type Kernel } from "./kernel.ts";
import { type KernelReport, runMatrix } from "./matrix.ts";
import { asJson, details, isGood, isGoodGuest, summaryLine } from "./report.ts";
import { type Architecture, architectures, newest, targets } from "./targets.ts";
import { Progress } from "./progress.ts";
import { findTestFiles, isOfEngineAlone } from "./test_files.ts";
import { installTools } from "./tools.ts";

const help = `usage: bun run test:kernels [KERNEL...] [TEST...] [options]

Boots Debian's kernels in emulated machines and runs the tests on them, or some of the tests on some of them.

  bun run test:kernels                  the tests on all kernels
  bun run test:kernels 5.10             the tests on one
  bun run test:kernels 6.12 test/maps   a part of the tests on one

KERNEL      ${targets.map(({ name }) => name).join(", ")}
TEST        a file of tests, or a folder of them

  --all             also tests that depend on the engine alone, which shows the same here
  --arch ARCH       x64 or arm64 (default: this machine's)
  --jobs N          guests at the same time (default: one for each CPU)
  --effort N        how much of their work tests do that try many cases, from 0 to 1 (default 0.01)
  --memory MIB      of each guest (default 3072)
  --time-limit MIN  for each guest (default 20)
  --logs FOLDER     where the logs of guests are kept that had failures (default: in the cache)
  --keep            keep the logs of all guests
  --table           ask the kernels what they have, run no tests, and write it into docs/kernels.md
  --json            print the results as JSON instead of text
  --help            print this

Kernels and what guests need are downloaded with apt, which verifies them, to ${cacheFolder()}.
What is missing to run them (QEMU, cpio) is installed with apt. Ends with status 0 if nothing failed, 1 if something
did, 2 for wrong arguments, and 3 where what is missing cannot be installed.`;

/** The status that says so. */
const cannotRun = 3;

const { values: options, positionals } = parseArguments();

function parseArguments() {
  try {
    return parseArgs({
      options: {
        arch: { type: "string", default: process.arch },
        jobs: { type: "string", default: String(availableParallelism()) },
        effort: { type: "string", default: "0.01" },
        memory: { type: "string", default: "3072" },
        "time-limit": { type: "string", default: "20" },
        logs: { type: "string" },
        keep: { type: "boolean", default: false },
        all: { type: "boolean", default: false },
        table: { type: "boolean", default: false },
        json: { type: "boolean", default: false },
        help: { type: "boolean", short: "h", default: false },
      },
      allowPositionals: true,
    });
  } catch (error) {
    return refuse((error as Error).message);
  }
}

function cacheFolder(): string {
  return join(process.env["XDG_CACHE_HOME"] ?? join(homedir(), ".cache"), "bun-bpf", "kernels");
}

/** The number of an option. */
function numberOption(name: "jobs" | "effort" | "memory" | "time-limit", least: number): number {
  const value = Number(options[name]);
  if (Number.isFinite(value) && value >= least) return value;
  return refuse(`--${name}: expected a number from ${least} on, got ${options[name]}`);
}

function refuse(message: string): never {
  console.error(message);
  process.exit(2);
}

/** The files of tests that the arguments name; without any, all that depend on the kernel, or on an engine that is not this one. */
function testFiles(paths: readonly string[]): string[] {
  if (options.table) return [];
  try {
    const files = findTestFiles(paths);
    const isLeftOut = paths.length === 0 && !options.all && architecture.name === process.arch;
    return isLeftOut ? files.filter((file) => !isOfEngineAlone(file)) : files;
  } catch (error) {
    return refuse((error as Error).message);
  }
}

function architectureOption(): Architecture {
  const { arch } = options;
  if (arch === "x64" || arch === "arm64") return architectures[arch];
  return refuse(`--arch: expected x64 or arm64, got ${arch}`);
}

function isKernelName(name: string): boolean {
  return /^\d+\.\d+$/.test(name) || targets.some((target) => target.name === name);
}

/** The kernels that the arguments name; all without any. One that is none of the named may be the newest. */
async function findKernels(names: readonly string[]): Promise<Kernel[]> {
  const wanted = names.length === 0 ? targets.map(({ name }) => name) : names;
  const kernels: Kernel[] = [];
  for (const name of new Set(wanted)) {
    const target = targets.find((each) => each.name === name) ?? newest;
    const kernel = await fetchKernel(target, architecture, cache);
    if (target.name !== name && !kernel.release.startsWith(`${name}.`)) {
      const known = targets.map(({ name }) => name).join(", ");
      refuse(`unknown kernel ${name}: there are ${known}, which is ${kernel.release}`);
    }
    kernels.push(kernel);
  }
  return kernels;
}

function say(line: string): void {
  if (options.json) return;
  progress.clear();
  console.log(line);
}

/** Writes a guest's logs where its user can read them. */
function keepLogs({ kernel, console, output }: GuestReport): string {
  const { release } = kernel;
  const index = Array.from(logFolders.keys()).filter((guest) => guest.kernel === kernel).length;
  const folder = join(options.logs ?? join(cache, "logs"), `${release}-${index}`);
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, "console.log"), console);
  writeFileSync(join(folder, "output.log"), output);
  return folder;
}

/** Says at once what became of a guest: others may run for long. */
function tell(guest: GuestReport): void {
  const report = { kernel: guest.kernel, guests: [guest] };
  say(summaryLine(report));
  for (const line of details(report)) say(`  ${line}`);
  if (!options.keep && isGoodGuest(guest)) return;
  const folder = keepLogs(guest);
  logFolders.set(guest, folder);
  say(`  logs: ${folder}`);
}

const cache = cacheFolder();
const progress = new Progress();
/** Where the logs are that are kept. */
const logFolders = new Map<GuestReport, string>();
if (options.help) {
  console.log(help);
  process.exit(0);
}
const architecture = architectureOption();
const kernelNames = positionals.filter(isKernelName);
const files = testFiles(positionals.filter((name) => !isKernelName(name)));
const settings = {
  jobs: numberOption("jobs", 1),
  effort: numberOption("effort", 0),
  memory: numberOption("memory", 512),
  timeLimit: numberOption("time-limit", 0) * 60_000,
};

const interruption = new AbortController();
process.once("SIGINT", () => interruption.abort());
process.once("SIGTERM", () => interruption.abort());

mkdirSync(cache, { recursive: true });
try {
  await installTools(architecture);
} catch (error) {
  console.error(`skipped: ${error instanceof Error ? error.message : String(error)}`);
  process.exit(cannotRun);
}
const kernels = await findKernels(kernelNames);
await systemArchive(architecture, cache);
say(
  `${files.length === 0 ? "features" : `${files.length} files of tests`} on ${kernels.map(({ release }) => release).join(", ")}`,
);
const started = Date.now();
const reports = await runMatrix(
  { ...settings, architecture, kernels, files },
  cache,
  interruption.signal,
  {
    onStart(guest) {
      progress.onStart(guest);
      say(`${guest.kernel.release}: booting`);
    },
    onTests: () => progress.onTests(),
    onEnd(guest, report) {
      progress.onEnd(guest);
      tell(report);
    },
  },
);
if (options.table && reports.every(isGood)) writeTable(reports.map(featuresOf));
if (options.json) {
  const json = reports.map((report) => asJson(report, logFolders));
  console.log(JSON.stringify(json, undefined, 2));
} else {
  say("");
  for (const report of reports) say(summaryLine(report));
  say(`${Math.round((Date.now() - started) / 1000)} s in all`);
}
process.exitCode = reports.every(isGood) ? 0 : 1;

function featuresOf({ kernel, guests: [guest] }: KernelReport): KernelFeatures {
  if (guest?.features === undefined) throw new Error(`${kernel.release} told no features`);
  return { release: kernel.release, report: JSON.parse(guest.features) as FeatureReport };
}
