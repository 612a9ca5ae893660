/** @module Which kernels there are to test on, and what machine each is booted in. */

/** A processor architecture, as Bun and this project name it, and as others do. */
export interface Architecture {
  readonly name: "x64" | "arm64";
  /** Debian's word. */
  readonly debian: string;
  /** The multiarch folder of its C library. */
  readonly multiarch: string;
  /** The dynamic loader, where programs look for it. */
  readonly loader: string;
  /** Bun's package in the npm registry. */
  readonly bunPackage: string;
  readonly emulator: string;
  /** The Debian package of the emulator. */
  readonly emulatorPackage: string;
  /** Arguments that name the machine. */
  readonly machine: readonly string[];
  /** Where the kernel writes its messages, and where the tests write theirs. */
  readonly console: string;
  readonly output: string;
  /** The device behind the second of them, where the machine has but one serial line of its own. */
  readonly outputDevice?: string;
}

/**
 * One thread emulates the processor: with several, kernel 6.12 panicked now and then.
 *
 * Without fast string instructions the kernel copies memory in loops, which the emulator translates well; such instructions it runs
 * byte by byte. Vectors of 32 bytes it has to take apart, and page tables of five levels take longer than those of four.
 */
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
    // Signing pointers as the architecture has it would take two thirds of all time; vectors of any length are taken apart.
    machine: [
      ...[...oneThread, "-machine", "virt"],
      ...["-cpu", "max,pauth-impdef=on,sve=off,sme=off"],
    ],
    console: "ttyAMA0",
    output: "ttyS0",
    outputDevice: "pci-serial",
  },
};

/** A kernel to test on. */
export interface Target {
  /** How a person names it: `"6.12"`. */
  readonly name: string;
  /** The Debian release whose kernel it is. */
  readonly suite: string;
}

/** Whatever Debian's unstable release has: it has no number to name it by. */
export const newest: Target = { name: "newest", suite: "sid" };

/** Oldest first. */
export const targets: readonly Target[] = [
  { name: "5.10", suite: "bullseye" },
  { name: "6.1", suite: "bookworm" },
  { name: "6.12", suite: "trixie" },
  newest,
];
