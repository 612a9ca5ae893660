import { BpfError } from "./error.ts";
import { readFileSync } from "./files.ts";
import { libc } from "./libc.ts";
import { type Architecture, architecture } from "./platform.ts";

/** A version of the kernel as its announcements have it: `"5.16"`. */
export type KernelVersion = `${number}.${number}`;

let cachedRelease: string | undefined;

/** The running kernel's release, as `uname -r` prints it: `"6.12.90-cloud-amd64"`. */
export function kernelRelease(): string {
  cachedRelease ??= readRelease();
  return cachedRelease;
}

/** Asks uname(2), as to read a file takes a millisecond the first time: the third field of `struct utsname`, of 65 bytes each. */
function readRelease(): string {
  const fieldSize = 65;
  const utsname = new Uint8Array(6 * fieldSize);
  libc.uname(utsname);
  const release = Buffer.from(utsname.subarray(2 * fieldSize, 3 * fieldSize));
  return release.toString("latin1", 0, release.indexOf(0));
}

/** Whether the running kernel is of a version or later. A distribution's may have more than its version says. */
export function isKernelSince(version: KernelVersion): boolean {
  return isVersionSince(kernelRelease(), version);
}

/** Whether a kernel's release or version is another version or later. */
export function isVersionSince(release: string, version: KernelVersion): boolean {
  const [major = 0, minor = 0] = numbers(release);
  const [sinceMajor = 0, sinceMinor = 0] = numbers(version);
  return major > sinceMajor || (major === sinceMajor && minor >= sinceMinor);
}

/** Returns the version that has something first on this architecture, where its JIT compiler had to learn it. */
export function sinceByArchitecture(
  versions: Readonly<Record<Architecture, KernelVersion>>,
): KernelVersion {
  return versions[architecture];
}

function numbers(text: string): number[] {
  return text.split(/[.-]/, 2).map((part) => Number.parseInt(part, 10));
}

const possiblePath = "/sys/devices/system/cpu/possible";

const whichCpus = "how many CPUs this machine may have";

let cachedCpus: readonly number[] | undefined;

/**
 * The ids of the CPUs that this machine could have: the values of per-CPU maps are in this order, one for each.
 *
 * There may be more than are present or online, and ids may be left out. The list stays the same until the next boot.
 *
 * @throws {Error} where /sys is not mounted: guessing too few would let the kernel write past a buffer
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
      throw new BpfError({ errno, syscall, doing: `tell ${whichCpus}` });
    }
    throw new Error(
      `cannot tell ${whichCpus}: ${possiblePath} is not readable; mount sysfs (mount -t sysfs sysfs /sys)`,
      { cause },
    );
  }
}

/** Reads the kernel's form of a list: `0-3,8` (lib/bitmap.c, "%*pbl"). */
export function parseCpuList(text: string): number[] {
  const ids: number[] = [];
  for (const range of text.trim().split(",")) {
    const match = /^(\d+)(?:-(\d+))?$/.exec(range);
    if (match === null)
      throw new Error(`${possiblePath}: not a list of CPUs: ${JSON.stringify(text)}`);
    const first = Number(match[1]);
    const last = Number(match[2] ?? match[1]);
    for (let id = first; id <= last; id++) ids.push(id);
  }
  return ids;
}

let cachedConfig: ReadonlyMap<string, string> | undefined;

/**
 * The options that the running kernel was built with, by name, with `"y"`, `"m"` or another value; those that are off are not
 * in it. `undefined` where the kernel does not tell and no distribution's file is there.
 */
export function kernelConfig(): ReadonlyMap<string, string> | undefined {
  cachedConfig ??= readConfig();
  return cachedConfig;
}

function readConfig(): ReadonlyMap<string, string> | undefined {
  const release = kernelRelease();
  const compressed = readIfThere("/proc/config.gz");
  const bytes =
    compressed === undefined
      ? (readIfThere(`/boot/config-${release}`) ?? readIfThere(`/lib/modules/${release}/config`))
      : Buffer.from(Bun.gunzipSync(new Uint8Array(compressed)));
  return bytes && parseKernelConfig(bytes.toString("latin1"));
}

function readIfThere(path: string): Buffer | undefined {
  try {
    return readFileSync(path);
  } catch (error) {
    // Which of the files there is, and who may read it, is the distribution's choice.
    if (["ENOENT", "EACCES"].includes((error as NodeJS.ErrnoException).code ?? ""))
      return undefined;
    throw error;
  }
}

/** The options in the text of a kernel's configuration. */
export function parseKernelConfig(text: string): ReadonlyMap<string, string> {
  return new Map(
    Array.from(text.matchAll(/^(CONFIG_\w+)=(.*)$/gm), ([, name = "", value = ""]) => [
      name,
      value.replace(/^"(.*)"$/, "$1"),
    ]),
  );
}

/** Where securityfs belongs. */
export const securityFolder = "/sys/kernel/security";

/** The lockdown of the kernel against root: none, against changes of it, or against being read as well. */
export type Lockdown = "none" | "integrity" | "confidentiality";

/** Reads from a mounted securityfs how far the kernel is locked; `undefined` where the file is not there or not readable. */
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
