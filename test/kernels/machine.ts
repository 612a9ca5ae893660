import { appendFileSync, existsSync, readFileSync, statSync } from "node:fs";
import type { Architecture } from "./targets.ts";

/** What is booted. */
export interface Boot {
  readonly architecture: Architecture;
  /** The kernel's image. */
  readonly image: string;
  /** An archive, or several in a row, that the kernel unpacks into memory as its file system. */
  readonly initialFiles: string;
  /** Where the kernel's messages and the tests' output go. */
  readonly console: string;
  readonly output: string;
  /** MiB. */
  readonly memory: number;
  /** Milliseconds for all of it. */
  readonly timeLimit: number;
  /** Called now and then while the guest runs. */
  readonly onLook: () => void;
}

/** How a guest ended. `"off"`: it switched itself off, having run its script. */
export type GuestEnd =
  "off" | "panicked" | "out of memory" | "hung" | "time limit" | "broken off" | "emulator failed";

/** How long nothing may be written by kernel or tests: longer than any test takes. */
const longestSilence = 180_000;
const lookInterval = 500;

/** What hardens a kernel costs emulated processors more than others, and nobody attacks these. */
const quickness = [
  "mitigations=off",
  "init_on_alloc=0",
  "randomize_kstack_offset=off",
  "kfence.sample_interval=0",
  "psi=0",
  "rcupdate.rcu_expedited=1",
];

/** Boots a kernel in an emulated machine, and waits for its end. */
export async function runMachine(boot: Boot, signal: AbortSignal): Promise<GuestEnd> {
  const { architecture, image, initialFiles, console, output, memory } = boot;
  // A panic ends the machine (panic=-1 reboots at once, -no-reboot makes that the end). Some kernels do not have BPF among
  // their security modules by themselves.
  // One CPU of three runs, so that values for each CPU are more than those that programs write.
  const commandLine = `console=${architecture.console} quiet panic=-1 lsm=lockdown,bpf maxcpus=1 ${quickness.join(" ")}`;
  const emulator = Bun.spawn(
    [
      architecture.emulator,
      ...architecture.machine,
      ...["-smp", "3", "-m", String(memory), "-display", "none", "-nic", "none", "-no-reboot"],
      ...["-kernel", image, "-initrd", initialFiles, "-append", commandLine],
      ...[
        "-chardev",
        `file,id=console,path=${console}`,
        "-chardev",
        `file,id=output,path=${output}`,
      ],
      ...["-serial", "chardev:console", ...outputDevice(architecture)],
    ],
    { stdin: "ignore", stdout: "ignore", stderr: "pipe" },
  );
  let ended: GuestEnd | undefined;
  try {
    ended = await watch(emulator, boot, signal);
  } finally {
    // For whatever reason nobody waits for it any more; it may have ended long since.
    emulator.kill("SIGKILL");
    await emulator.exited;
  }
  if (ended !== undefined) return ended;
  if (emulator.exitCode !== 0) {
    const complaint = (await emulator.stderr.text()).trim();
    const reason = emulator.signalCode ?? `status ${emulator.exitCode}`;
    // The last that there is to say of this machine: it belongs to what its kernel said.
    appendFileSync(console, `\n${architecture.emulator} ended by ${reason}: ${complaint}\n`);
    return "emulator failed";
  }
  return endByLog(readLog(console), readLog(output));
}

function outputDevice({ outputDevice }: Architecture): string[] {
  if (outputDevice === undefined) return ["-serial", "chardev:output"];
  return ["-device", `${outputDevice},chardev=output`];
}

/** Waits until the emulator ends; why it is to be ended where it does not do so by itself. */
async function watch(
  emulator: Bun.Subprocess,
  { console, output, timeLimit, onLook }: Boot,
  signal: AbortSignal,
): Promise<GuestEnd | undefined> {
  const start = Date.now();
  let written = 0;
  let lastWrite = start;
  while (emulator.exitCode === null && emulator.signalCode === null) {
    await Promise.race([emulator.exited, Bun.sleep(lookInterval)]);
    onLook();
    const size = sizeOf(console) + sizeOf(output);
    if (size !== written) lastWrite = Date.now();
    written = size;
    const reason: GuestEnd | undefined = signal.aborted
      ? "broken off"
      : Date.now() - start > timeLimit
        ? "time limit"
        : Date.now() - lastWrite > longestSilence
          ? "hung"
          : undefined;
    if (reason !== undefined) return reason;
  }
  return undefined;
}

function sizeOf(path: string): number {
  return statSync(path, { throwIfNoEntry: false })?.size ?? 0;
}

/** What was written to a log so far: there is none before the emulator has made it, and it may end before. */
export function readLog(path: string): string {
  return existsSync(path) ? readFileSync(path, "utf8") : "";
}

/** What the guest's script writes last. */
export const lastLine = "@@ end";

function endByLog(console: string, output: string): GuestEnd {
  if (/Kernel panic/.test(console)) return "panicked";
  if (/Out of memory: Killed process|oom-kill:/.test(console)) return "out of memory";
  return output.includes(lastLine) ? "off" : "panicked";
}
