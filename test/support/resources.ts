import { readdirSync, readFileSync, readlinkSync } from "node:fs";

/** Names in `/proc/self/fd` of files that a leak would leave open. */
const watchedDescriptors = /^anon_inode:(\[?(bpf|perf_event|io_uring|eventfd)|bpf)|^socket:/;

/** The numbers of descriptors by kind, and of mappings of kernel objects, of this process. */
export interface Resources {
  readonly descriptors: Readonly<Record<string, number>>;
  readonly mappings: number;
}

/**
 * Counts the descriptors and mappings of this process that the library could leak.
 *
 * Sockets include the pipes to children, which Bun closes at a garbage collection if they are not read to their end. Tests
 * therefore start children whose output they do not read with `stdout: "ignore"`.
 */
export function countResources(): Resources {
  const descriptors: Record<string, number> = {};
  for (const fd of readdirSync("/proc/self/fd")) {
    let target: string;
    try {
      target = readlinkSync(`/proc/self/fd/${fd}`);
    } catch {
      // The descriptor of the directory listing itself is closed already.
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

/** The number of equal counts in a row that {@link settledResources} waits for. */
const equalCounts = 5;
const countIntervalMs = 20;

/**
 * Waits until the counts do not change any more, and returns them. The kernel releases resources of ended threads late, and
 * some sockets are closed in a later turn of the event loop.
 */
export async function settledResources(): Promise<Resources> {
  let resources = countResources();
  for (let equal = 0; equal < equalCounts; equal++) {
    await Bun.sleep(countIntervalMs);
    const now = countResources();
    if (!Bun.deepEquals(now, resources)) equal = 0;
    resources = now;
  }
  return resources;
}
