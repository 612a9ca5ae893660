import { readFileSync } from "node:fs";

/** A version of the kernel as its announcements have it: `"5.16"`. */
export type KernelVersion = `${number}.${number}`;

let cached: string | undefined;

/** The running kernel's release, as `uname -r` prints it: `"6.12.90-cloud-amd64"`. */
export function kernelRelease(): string {
  cached ??= readFileSync("/proc/sys/kernel/osrelease", "utf8").trim();
  return cached;
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

function numbers(text: string): number[] {
  return text.split(/[.-]/, 2).map((part) => Number.parseInt(part, 10));
}
