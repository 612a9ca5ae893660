import {
  appendFileSync,
  copyFileSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { basename, join } from "node:path";
import { projectArchive, systemArchive } from "./image.ts";
import type { Kernel } from "./kernel.ts";
import { type GuestEnd, lastLine, readLog, runMachine } from "./machine.ts";
import { countResults, parseResults, type Results } from "./results.ts";
import type { Architecture } from "./targets.ts";

/** A run of tests in one guest. */
export interface GuestRun {
  readonly kernel: Kernel;
  readonly architecture: Architecture;
  /** The test files; empty to only print the features. */
  readonly tests: readonly string[];
  /** A part of the titles of the tests to run. @default all tests of the files */
  readonly title?: string;
  /** Fraction of the cases that tests with random or many cases run: 1 runs all. */
  readonly effort: number;
  /** Memory in MiB. */
  readonly memory: number;
  /** Time limit in milliseconds. */
  readonly timeLimit: number;
  /** Called repeatedly with the number of tests that have ended. */
  readonly onTests: (ended: number) => void;
}

/** The result of a run. */
export interface GuestReport extends Results {
  readonly kernel: Kernel;
  readonly end: GuestEnd;
  /** Duration in seconds. */
  readonly duration: number;
  /** The kernel's messages. */
  readonly console: string;
  /** Everything that the tests printed. */
  readonly output: string;
}

/** Timeout in milliseconds of tests that set none: emulation is about ten times slower. */
const testTimeoutMs = 120_000;

/** Returns the shell script of a guest, whose output goes to the second serial line. */
function script({ architecture, tests, title, effort }: GuestRun): string {
  const line = `/dev/${architecture.output}`;
  const files = tests.map((path) => `./${path}`).join(" ");
  const filter = title === undefined ? "" : ` -t "${title}"`;
  const run = `bun test --timeout ${testTimeoutMs}${filter} ${files}`;
  const askFeatures = 'echo "@@ features"\nbun test/kernels/print_features.ts';
  return `stty -F ${line} raw -echo
exec >${line} 2>&1
export BUN_BPF_TEST_EFFORT=${effort}
cd /project
${tests.length === 0 ? askFeatures : `echo "@@ tests"\n${run}`}
echo "@@ exit $?"
echo "${lastLine}"
poweroff -f
`;
}

/**
 * Boots a kernel and runs tests on it.
 *
 * @param cache a directory for downloads and temporary files
 */
export async function runGuest(
  run: GuestRun,
  cache: string,
  signal: AbortSignal,
): Promise<GuestReport> {
  const { kernel, architecture, memory, timeLimit, onTests } = run;
  const system = await systemArchive(architecture, cache);
  const folder = mkdtempSync(join(cache, "guest-"));
  const file = (name: string) => join(folder, name);
  try {
    writeFileSync(file("run.sh"), script(run));
    await projectArchive(file("project.cpio"), {
      "run.sh": file("run.sh"),
      [`boot/config-${kernel.release}`]: kernel.config,
      // The names have numbers, so that the guest loads the modules in their order.
      ...Object.fromEntries(
        kernel.modules.map((path, index) => [`modules/${index}-${basename(path)}`, path]),
      ),
    });
    // The kernel unpacks concatenated archives.
    copyFileSync(system, file("initial.cpio"));
    appendFileSync(file("initial.cpio"), readFileSync(file("project.cpio")));
    const start = Bun.nanoseconds();
    const end = await runMachine(
      {
        architecture,
        image: kernel.image,
        initialFiles: file("initial.cpio"),
        console: file("console.log"),
        output: file("output.log"),
        memory,
        timeLimit,
        onPoll: () => onTests(countResults(readLog(file("output.log")))),
      },
      signal,
    );
    const duration = (Bun.nanoseconds() - start) / 1e9;
    const output = readLog(file("output.log"));
    const console = readLog(file("console.log"));
    return { kernel, end, duration, console, output, ...parseResults(output) };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
