/**
 * Boots other kernels in emulated machines and runs the tests on them: `bun run test:kernels --help`.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { availableParallelism, homedir, release } from "node:os";
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
import { findTestFiles, isKernelIndependent } from "./test_files.ts";
import { installTools } from "./tools.ts";
import { wayTitle } from "../link/way.ts";
import { type KernelTests, runHere, wayFiles, writeWayTable } from "./way_table.ts";

const help = `usage: bun run test:kernels [KERNEL...] [TEST...] [options]

Boots Debian's kernels in emulated machines, and runs the tests on them.

  bun run test:kernels                  run all tests on all kernels
  bun run test:kernels 5.10             run all tests on one kernel
  bun run test:kernels 6.12 test/maps   run some tests on one kernel

KERNEL      ${targets.map(({ name }) => name).join(", ")}
TEST        a test file, or a folder with test files

  --all             also run tests that do not depend on the kernel
  --arch ARCH       architecture, x64 or arm64 (default: that of this machine)
  --jobs N          number of guests that run at the same time (default: number of CPUs)
  --effort N        fraction of the cases that tests with many cases run, from 0 to 1 (default 0.01)
  --memory MIB      memory of each guest (default 3072)
  --time-limit MIN  time limit of each guest (default 20)
  --logs FOLDER     folder for the logs of guests with failures (default: in the cache)
  --keep            keep the logs of all guests
  --table           run no tests, but probe the kernels and write the table of features to docs/kernels.md
  --ways            run the tests of the ways to attach, and write the table of their results to docs/kernels.md
  --here            with --ways, also run them on the running kernel
  --json            print the results as JSON
  --help            show this help

Kernels and the files of guests are downloaded with apt, which verifies them, to ${cacheFolder()}.
Missing tools (QEMU, cpio) are installed with apt. The exit status is 0 if nothing failed, 1 if something failed,
2 if the arguments are wrong, and 3 if a tool is missing and cannot be installed.`;

/** Exit status if a tool is missing and cannot be installed. */
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
        ways: { type: "boolean", default: false },
        here: { type: "boolean", default: false },
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

/** Returns the value of a numeric option. */
function numberOption(name: "jobs" | "effort" | "memory" | "time-limit", minimum: number): number {
  const value = Number(options[name]);
  if (Number.isFinite(value) && value >= minimum) return value;
  return refuse(`--${name}: expected a number of at least ${minimum}, got ${options[name]}`);
}

function refuse(message: string): never {
  console.error(message);
  process.exit(2);
}

/** Returns the test files of the arguments; by default those that depend on the kernel, or all on another architecture. */
function testFiles(paths: readonly string[]): string[] {
  if (options.table) return [];
  if (options.ways) return wayFiles();
  try {
    const files = findTestFiles(paths);
    const onlyKernelTests =
      paths.length === 0 && !options.all && architecture.name === process.arch;
    return onlyKernelTests ? files.filter((file) => !isKernelIndependent(file)) : files;
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

/** Returns the kernels that the arguments name; by default all. Any other version must be that of the newest kernel. */
async function findKernels(names: readonly string[]): Promise<Kernel[]> {
  const wanted = names.length === 0 ? targets.map(({ name }) => name) : names;
  const kernels: Kernel[] = [];
  for (const name of new Set(wanted)) {
    const target = targets.find((each) => each.name === name) ?? newest;
    const kernel = await fetchKernel(target, architecture, cache);
    if (target.name !== name && !kernel.release.startsWith(`${name}.`)) {
      const known = targets.map(({ name }) => name).join(", ");
      refuse(`unknown kernel ${name}: known are ${known}, which is now ${kernel.release}`);
    }
    kernels.push(kernel);
  }
  return kernels;
}

function print(line: string): void {
  if (options.json) return;
  progress.clear();
  console.log(line);
}

/** Writes the logs of a guest to files, and returns their folder. */
function keepLogs({ kernel, console, output }: GuestReport): string {
  const { release } = kernel;
  const index = Array.from(logFolders.keys()).filter((guest) => guest.kernel === kernel).length;
  const folder = join(options.logs ?? join(cache, "logs"), `${release}-${index}`);
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, "console.log"), console);
  writeFileSync(join(folder, "output.log"), output);
  return folder;
}

/** Prints the result of a guest when it ends. */
function printResult(guest: GuestReport): void {
  const report = { kernel: guest.kernel, guests: [guest] };
  print(summaryLine(report));
  for (const line of details(report)) print(`  ${line}`);
  if (!options.keep && isGoodGuest(guest)) return;
  const folder = keepLogs(guest);
  logFolders.set(guest, folder);
  print(`  logs: ${folder}`);
}

const cache = cacheFolder();
const progress = new Progress();
/** The folders of kept logs. */
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
print(
  `${files.length === 0 ? "features" : `${files.length} test files`} on ${kernels.map(({ release }) => release).join(", ")}`,
);
const started = Date.now();
const reports = await runMatrix(
  { ...settings, architecture, kernels, files, ...(options.ways && { title: wayTitle }) },
  cache,
  interruption.signal,
  {
    onStart(guest) {
      progress.onStart(guest);
      print(`${guest.kernel.release}: booting`);
    },
    onTests: () => progress.onTests(),
    onEnd(guest, report) {
      progress.onEnd(guest);
      printResult(report);
    },
  },
);
if (options.table && reports.every(isGood)) writeTable(reports.map(featuresOf));
if (options.ways && reports.every(isGood)) {
  const here = options.here ? [{ release: release(), tests: await runHere(files) }] : [];
  writeWayTable([...reports.map(testsOf), ...here].toSorted(byVersion));
}
if (options.json) {
  const json = reports.map((report) => asJson(report, logFolders));
  console.log(JSON.stringify(json, undefined, 2));
} else {
  print("");
  for (const report of reports) print(summaryLine(report));
  print(`${Math.round((Date.now() - started) / 1000)} s in total`);
}
process.exitCode = reports.every(isGood) ? 0 : 1;

function testsOf({ kernel, guests }: KernelReport): KernelTests {
  return { release: kernel.release, tests: guests.flatMap(({ tests }) => tests) };
}

function byVersion(a: KernelTests, b: KernelTests): number {
  return a.release.localeCompare(b.release, "en", { numeric: true });
}

function featuresOf({ kernel, guests: [guest] }: KernelReport): KernelFeatures {
  if (guest?.features === undefined) throw new Error(`${kernel.release} printed no features`);
  return { release: kernel.release, report: JSON.parse(guest.features) as FeatureReport };
}
