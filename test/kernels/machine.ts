import { appendFileSync, existsSync, readFileSync, statSync } from "node:fs";
import type { Architecture } from "./targets.ts";

/** A machine to boot. */
export interface Boot {
  readonly architecture: Architecture;
  /** The path of the kernel's image. */
  readonly image: string;
  /** The path of concatenated archives that the kernel unpacks into memory as its file system. */
  readonly initialFiles: string;
  /** The files for the kernel's messages and the tests' output. */
  readonly console: string;
  readonly output: string;
  /** Memory in MiB. */
  readonly memory: number;
  /** Time limit in milliseconds. */
  readonly timeLimit: number;
  /** Called repeatedly while the guest runs. */
  readonly onPoll: () => void;
}

/** The end of a guest. `"off"` means that it powered off after its script. */
export type GuestEnd =
  "off" | "panicked" | "out of memory" | "hung" | "time limit" | "interrupted" | "emulator failed";

/** Time without output after which a guest is hung: longer than any test takes. */
const maxSilenceMs = 180_000;
const pollIntervalMs = 500;

/** Disables hardening, which slows emulated processors down more than others and is of no use here. */
const speedOptions = [
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
  // A panic ends the machine: panic=-1 reboots at once, and -no-reboot exits instead. lsm= enables the BPF security module,
  // which is not active by default in some kernels. Only one of three possible CPUs runs, so that per-CPU maps have values to
  // which no program writes.
  const commandLine = `console=${architecture.console} quiet panic=-1 lsm=lockdown,bpf maxcpus=1 ${speedOptions.join(" ")}`;
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
    // Ends the emulator also if the observer throws an error.
    emulator.kill("SIGKILL");
    await emulator.exited;
  }
  if (ended !== undefined) return ended;
  if (emulator.exitCode !== 0) {
    const complaint = (await emulator.stderr.text()).trim();
    const reason = emulator.signalCode ?? `status ${emulator.exitCode}`;
    // The emulator's message is part of the log of the kernel's messages.
    appendFileSync(console, `\n${architecture.emulator} ended by ${reason}: ${complaint}\n`);
    return "emulator failed";
  }
  return endByLog(readLog(console), readLog(output));
}

function outputDevice({ outputDevice }: Architecture): string[] {
  if (outputDevice === undefined) return ["-serial", "chardev:output"];
  return ["-device", `${outputDevice},chardev=output`];
}

/** Waits until the emulator ends. Returns a reason if it has to be ended, `undefined` if it ended by itself. */
async function watch(
  emulator: Bun.Subprocess,
  { console, output, timeLimit, onPoll }: Boot,
  signal: AbortSignal,
): Promise<GuestEnd | undefined> {
  const start = Date.now();
  let written = 0;
  let lastWrite = start;
  while (emulator.exitCode === null && emulator.signalCode === null) {
    await Promise.race([emulator.exited, Bun.sleep(pollIntervalMs)]);
    onPoll();
    const size = sizeOf(console) + sizeOf(output);
    if (size !== written) lastWrite = Date.now();
    written = size;
    const reason: GuestEnd | undefined = signal.aborted
      ? "interrupted"
      : Date.now() - start > timeLimit
        ? "time limit"
        : Date.now() - lastWrite > maxSilenceMs
          ? "hung"
          : undefined;
    if (reason !== undefined) return reason;
  }
  return undefined;
}

function sizeOf(path: string): number {
  return statSync(path, { throwIfNoEntry: false })?.size ?? 0;
}

/** Returns the contents of a log so far; empty before the emulator has created it. */
export function readLog(path: string): string {
  return existsSync(path) ? readFileSync(path, "utf8") : "";
}

/** The last line of the guest's script output. */
export const lastLine = "@@ end";

function endByLog(console: string, output: string): GuestEnd {
  if (/Kernel panic/.test(console)) return "panicked";
  if (/Out of memory: Killed process|oom-kill:/.test(console)) return "out of memory";
  return output.includes(lastLine) ? "off" : "panicked";
}
