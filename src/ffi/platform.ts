/**
 * The oldest version of Bun that this library is tested with. Calls through its `bun:ffi` are compiled by the JavaScript engine
 * and take nanoseconds.
 */
const minimumBun = "1.4.5";

/** A supported architecture: system call numbers and layouts are known for it. */
export type Architecture = "x64" | "arm64";

function findObstacle(): string | undefined {
  const bun = process.versions.bun;
  if (bun === undefined) {
    return "bun-bpf runs on Bun: start the program with `bun FILE` (https://bun.com)";
  }
  if (process.platform !== "linux") {
    return `bun-bpf needs Linux: BPF is part of its kernel, and this is ${process.platform}`;
  }
  if (process.arch !== "x64" && process.arch !== "arm64") {
    return `bun-bpf supports x86-64 and arm64 only, and this is ${process.arch}`;
  }
  if (Bun.semver.order(bun, minimumBun) < 0) {
    return `bun-bpf needs Bun ${minimumBun} or later, and this is ${bun}: run \`bun upgrade\``;
  }
  return undefined;
}

/** Error message with the reason why this library cannot run here; `undefined` if it can. */
export const platformObstacle: string | undefined = findObstacle();

/** The architecture of this process. It is valid only if {@link platformObstacle} is `undefined`. */
export const architecture = process.arch as Architecture;
