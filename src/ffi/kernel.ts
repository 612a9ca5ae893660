import { BpfError } from "./error.ts";
import { readFileSync } from "./files.ts";
import { libc } from "./libc.ts";
import { type Architecture, architecture } from "./platform.ts";

/** A kernel version without the stable release: `"5.16"`. */
export type KernelVersion = `${number}.${number}`;

let cachedRelease: string | undefined;

/** Returns the running kernel's release, as `uname -r` prints it: `"6.12.90-cloud-amd64"`. */
export function kernelRelease(): string {
  cachedRelease ??= readRelease();
  return cachedRelease;
}

/** Reads the release with uname(2), because the first read of a file takes a millisecond. */
function readRelease(): string {
  // The release is the third of the six fields of struct utsname, which have 65 bytes each.
  const fieldSize = 65;
  const utsname = new Uint8Array(6 * fieldSize);
  libc.uname(utsname);
  const release = Buffer.from(utsname.subarray(2 * fieldSize, 3 * fieldSize));
  return release.toString("latin1", 0, release.indexOf(0));
}

/** Returns true if the running kernel has at least this version. Distributions backport features to older versions. */
export function isKernelSince(version: KernelVersion): boolean {
  return isVersionSince(kernelRelease(), version);
}

/** Returns true if a kernel release or version is at least `version`. */
export function isVersionSince(release: string, version: KernelVersion): boolean {
  const [major = 0, minor = 0] = numbers(release);
  const [sinceMajor = 0, sinceMinor = 0] = numbers(version);
  return major > sinceMajor || (major === sinceMajor && minor >= sinceMinor);
}

/** Returns this architecture's entry of a table of the first kernel versions whose JIT compilers support a feature. */
export function sinceByArchitecture(
  versions: Readonly<Record<Architecture, KernelVersion>>,
): KernelVersion {
  return versions[architecture];
}

function numbers(text: string): number[] {
  return text.split(/[.-]/, 2).map((part) => Number.parseInt(part, 10));
}

const possiblePath = "/sys/devices/system/cpu/possible";

let cachedCpus: readonly number[] | undefined;

/**
 * Returns the ids of the possible CPUs. Per-CPU maps have one value for each, in this order.
 *
 * There can be more possible CPUs than present or online ones, and ids can be missing. The list is fixed until the next boot.
 *
 * @throws {Error} if /sys is not mounted: with too low a number the kernel would write past the end of a buffer.
 *
 * @example
 * ```ts
 * import { possibleCpus } from "bun-bpf";
 * console.log(`values for ${possibleCpus().length} CPUs, the first is CPU ${possibleCpus()[0]}`);
 * ```
 */
export function possibleCpus(): readonly number[] {
  cachedCpus ??= Object.freeze(parseCpuList(readPossible()));
  return cachedCpus;
}

function readPossible(): string {
  try {
    return readFileSync(possiblePath, "utf8");
  } catch (cause) {
    if (cause instanceof BpfError) {
      const { errno, syscall } = cause;
      throw new BpfError({ errno, syscall, doing: "list the possible CPUs" });
    }
    throw new Error(
      `cannot list the possible CPUs: ${possiblePath} is not readable. Mount sysfs: mount -t sysfs sysfs /sys`,
      { cause },
    );
  }
}

/**
 * Parses a list in the kernel's format: `0-3,8` (lib/bitmap.c, "%*pbl").
 *
 * @param path the file that has the text, for errors
 */
export function parseCpuList(text: string, path: string = possiblePath): number[] {
  const ids: number[] = [];
  for (const range of text.trim().split(",")) {
    const match = /^(\d+)(?:-(\d+))?$/.exec(range);
    if (match === null)
      throw new Error(`${path}: expected a list of CPUs, got ${JSON.stringify(text)}`);
    const first = Number(match[1]);
    const last = Number(match[2] ?? match[1]);
    for (let id = first; id <= last; id++) ids.push(id);
  }
  return ids;
}

let cachedConfig: ReadonlyMap<string, string> | undefined;

/**
 * Returns the build options of the running kernel by name, each `"y"`, `"m"` or another value. Options that are off are absent.
 *
 * Returns `undefined` where neither the kernel (/proc/config.gz) nor the distribution (/boot, /lib/modules) provides them.
 */
export function kernelConfig(): ReadonlyMap<string, string> | undefined {
  cachedConfig ??= readConfig();
  return cachedConfig;
}

function readConfig(): ReadonlyMap<string, string> | undefined {
  const release = kernelRelease();
  const compressed = readIfPresent("/proc/config.gz");
  const bytes =
    compressed === undefined
      ? (readIfPresent(`/boot/config-${release}`) ??
        readIfPresent(`/lib/modules/${release}/config`))
      : Buffer.from(Bun.gunzipSync(new Uint8Array(compressed)));
  return bytes && parseKernelConfig(bytes.toString("latin1"));
}

function readIfPresent(path: string): Buffer | undefined {
  try {
    return readFileSync(path);
  } catch (error) {
    // Distributions differ in which of the files exist, and in who may read them.
    if (["ENOENT", "EACCES"].includes((error as NodeJS.ErrnoException).code ?? ""))
      return undefined;
    throw error;
  }
}

/** Parses the text of a kernel's configuration file. */
function parseKernelConfig(text: string): ReadonlyMap<string, string> {
  return new Map(
    Array.from(text.matchAll(/^(CONFIG_\w+)=(.*)$/gm), ([, name = "", value = ""]) => [
      name,
      value.replace(/^"(.*)"$/, "$1"),
    ]),
  );
}

/** The mount point of securityfs. */
export const securityFolder = "/sys/kernel/security";

/**
 * A lockdown mode: off, no changes to the running kernel (`"integrity"`), or also no reading of its memory (`"confidentiality"`).
 */
export type Lockdown = "none" | "integrity" | "confidentiality";

/** Reads the lockdown mode from a mounted securityfs; `undefined` where the file is absent or not readable. */
export function lockdownIn(folder: string): Lockdown | undefined {
  try {
    const text = readFileSync(`${folder}/lockdown`, "utf8");
    return /\[(\w+)\]/.exec(text)?.[1] as Lockdown | undefined;
  } catch (error) {
    const { code = "" } = error as NodeJS.ErrnoException;
    if (["ENOENT", "EACCES", "EPERM"].includes(code)) return undefined;
    throw error;
  }
}
