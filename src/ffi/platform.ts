/** The oldest Bun whose `bun:ffi` this library was built and tested on: its calls are part of the engine and cost nanoseconds. */
const minimumBun = "1.4.5";

/** Architectures for which the system call numbers and memory layouts here are right. */
export type Architecture = "x64" | "arm64";

function findObstacle(): string | undefined {
  const bun = process.versions.bun;
  if (bun === undefined) {
    return "bun-bpf runs on Bun: start the program with `bun FILE` (https://bun.com)";
  }
  if (process.platform !== "linux") {
    return `bun-bpf needs Linux: BPF is a part of its kernel, and this is ${process.platform}`;
  }
  if (process.arch !== "x64" && process.arch !== "arm64") {
    return `bun-bpf knows the kernel's interface on x86-64 and arm64 only, and this is ${process.arch}`;
  }
  if (Bun.semver.order(bun, minimumBun) < 0) {
    return `bun-bpf needs Bun ${minimumBun} or later, and this is ${bun}: run \`bun upgrade\``;
  }
  return undefined;
}

/** Why nothing here can call the kernel, in a sentence for the user; `undefined` where it can. */
export const platformObstacle: string | undefined = findObstacle();

/** The architecture of this process; only meaningful where {@link platformObstacle} is `undefined`. */
export const architecture = process.arch as Architecture;
