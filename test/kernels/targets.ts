/** @module The kernels on which tests run, and the machines in which they boot. */

/** A processor architecture, with its names in Bun and elsewhere. */
export interface Architecture {
  readonly name: "x64" | "arm64";
  /** The name in Debian. */
  readonly debian: string;
  /** The multiarch directory of its C library. */
  readonly multiarch: string;
  /** The path of the dynamic loader. */
  readonly loader: string;
  /** Bun's package in the npm registry. */
  readonly bunPackage: string;
  readonly emulator: string;
  /** The Debian package of the emulator. */
  readonly emulatorPackage: string;
  /** Arguments of the emulator for the machine. */
  readonly machine: readonly string[];
  /** The serial lines for the kernel's messages and for the output of the tests. */
  readonly console: string;
  readonly output: string;
  /** The device of the second serial line, if the machine has only one. */
  readonly outputDevice?: string;
}

/** Arguments for emulation by one thread: with several threads, kernel 6.12 panics sometimes. */
const oneThread = ["-accel", "tcg,thread=single"];

export const architectures: Readonly<Record<Architecture["name"], Architecture>> = {
  x64: {
    name: "x64",
    debian: "amd64",
    multiarch: "x86_64-linux-gnu",
    loader: "lib64/ld-linux-x86-64.so.2",
    bunPackage: "@oven/bun-linux-x64",
    emulator: "qemu-system-x86_64",
    emulatorPackage: "qemu-system-x86",
    // Features that are slow in the emulator are off: it executes fast string instructions byte by byte, splits vectors of
    // 32 bytes, and takes longer for page tables of five levels.
    machine: [...oneThread, "-cpu", "max,-erms,-fsrm,-avx,-avx2,-la57"],
    console: "ttyS0",
    output: "ttyS1",
  },
  arm64: {
    name: "arm64",
    debian: "arm64",
    multiarch: "aarch64-linux-gnu",
    loader: "lib/ld-linux-aarch64.so.1",
    bunPackage: "@oven/bun-linux-aarch64",
    emulator: "qemu-system-aarch64",
    emulatorPackage: "qemu-system-arm",
    // Emulating the architected algorithm of pointer authentication would take two thirds of the time. SVE and SME are off,
    // because the emulator splits scalable vectors into small parts.
    machine: [
      ...[...oneThread, "-machine", "virt"],
      ...["-cpu", "max,pauth-impdef=on,sve=off,sme=off"],
    ],
    console: "ttyAMA0",
    output: "ttyS0",
    outputDevice: "pci-serial",
  },
};

/** A kernel on which tests run. */
export interface Target {
  /** The name on the command line: `"6.12"`. */
  readonly name: string;
  /** The Debian release that has the kernel. */
  readonly suite: string;
}

/** The kernel of Debian's unstable release, whose version changes. */
export const newest: Target = { name: "newest", suite: "sid" };

/** All targets, oldest first. */
export const targets: readonly Target[] = [
  { name: "5.10", suite: "bullseye" },
  { name: "6.1", suite: "bookworm" },
  { name: "6.12", suite: "trixie" },
  newest,
];
