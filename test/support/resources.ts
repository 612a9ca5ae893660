import { readdirSync, readFileSync, readlinkSync } from "node:fs";

/** Kernel objects that a leak would leave open, by what `/proc/self/fd` calls them. */
const watchedDescriptors = /^anon_inode:(\[?(bpf|perf_event|io_uring|eventfd)|bpf)|^socket:/;

/** What this process holds of the kernel: how many descriptors of each kind, and mappings that are not a file's. */
export interface Resources {
  readonly descriptors: Readonly<Record<string, number>>;
  readonly mappings: number;
}

/** Counts the descriptors and mappings of this process that the library could leak. */
export function countResources(): Resources {
  const descriptors: Record<string, number> = {};
  for (const fd of readdirSync("/proc/self/fd")) {
    let target: string;
    try {
      target = readlinkSync(`/proc/self/fd/${fd}`);
    } catch {
      // The descriptor of the directory listing itself is gone by now.
      continue;
    }
    if (!watchedDescriptors.test(target)) continue;
    const kind = target.startsWith("socket:") ? "socket" : target;
    descriptors[kind] = (descriptors[kind] ?? 0) + 1;
  }
  const maps = readFileSync("/proc/self/maps", "utf8");
  const mappings = maps.split("\n").filter((line) => /anon_inode:.*(bpf|io_uring|perf)/.test(line));
  return { descriptors, mappings: mappings.length };
}

/** How often what is held has to stay the same, and milliseconds between two looks. */
const calmLooks = 5;
const lookInterval = 20;

/**
 * Counts them when nothing of earlier tests goes any more: threads that have ended, and sockets that are closed in a later turn of
 * the loop, take a moment, the longer the slower the machine.
 */
export async function settledResources(): Promise<Resources> {
  let resources = countResources();
  for (let calm = 0; calm < calmLooks; calm++) {
    await Bun.sleep(lookInterval);
    const now = countResources();
    if (!Bun.deepEquals(now, resources)) calm = 0;
    resources = now;
  }
  return resources;
}
