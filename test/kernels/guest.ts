import {
  appendFileSync,
  copyFileSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { projectArchive, systemArchive } from "./image.ts";
import type { Kernel } from "./kernel.ts";
import { type GuestEnd, lastLine, readLog, runMachine } from "./machine.ts";
import { countResults, parseResults, type Results } from "./results.ts";
import type { Architecture } from "./targets.ts";

/** What one guest does. */
export interface GuestRun {
  readonly kernel: Kernel;
  readonly architecture: Architecture;
  /** Files of tests; none to ask for features alone. */
  readonly tests: readonly string[];
  /** How much of their usual work the tests do that try random or many cases: 1 is all. */
  readonly effort: number;
  /** MiB. */
  readonly memory: number;
  /** Milliseconds. */
  readonly timeLimit: number;
  /** Hears now and then how many tests have ended so far. */
  readonly onTests: (ended: number) => void;
}

/** What became of it. */
export interface GuestReport extends Results {
  readonly kernel: Kernel;
  readonly end: GuestEnd;
  /** Seconds. */
  readonly duration: number;
  /** The kernel's messages. */
  readonly console: string;
  /** Everything that the tests printed. */
  readonly output: string;
}

/** How long a test may take that sets no time of its own, in milliseconds: emulation is some ten times slower. */
const testTimeout = 120_000;

/** The commands that a guest runs, written to its second serial line. */
function script({ architecture, tests, effort }: GuestRun): string {
  const line = `/dev/${architecture.output}`;
  const files = tests.map((path) => `./${path}`).join(" ");
  const run = `bun test --timeout ${testTimeout} ${files}`;
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
 * @param cache a folder for what is downloaded, and for what this run writes while it lasts
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
    });
    // The kernel unpacks archives that follow one another.
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
        onLook: () => onTests(countResults(readLog(file("output.log")))),
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
