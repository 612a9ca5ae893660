import type { KernelVersion } from "../ffi/kernel_release.ts";
import { type Architecture, architecture } from "../ffi/platform.ts";

/** The kernel that has something first on this architecture, where its compiler for programs had to learn it. */
export function sinceByArchitecture(
  versions: Readonly<Record<Architecture, KernelVersion>>,
): KernelVersion {
  return versions[architecture];
}
