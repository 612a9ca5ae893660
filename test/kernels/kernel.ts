import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { Archive } from "./archive.ts";
import { cached } from "./cached.ts";
import type { Architecture, Target } from "./targets.ts";

/** A kernel that can be booted. */
export interface Kernel {
  readonly target: Target;
  /** The release, as `uname -r` prints it. */
  readonly release: string;
  /** The path of the compressed image. */
  readonly image: string;
  /** The path of the file with its build options. */
  readonly config: string;
  /** The paths of the modules that guests load, in this order. */
  readonly modules: readonly string[];
}

/** Modules that tests of network interfaces need: veth pairs, and classic filters of traffic control. */
const moduleNames = ["veth", "sch_ingress", "cls_bpf", "nf_defrag_ipv4"];

/** Matches the dependencies of a kernel's package that are parts of the kernel. */
const partOfKernel = /^linux-(?:image|binary|base|modules)-\d/;

/** Finds a target's kernel in the archive's index and downloads it, unless it was found within the last week. */
export function fetchKernel(
  target: Target,
  { debian }: Architecture,
  cache: string,
): Promise<Kernel> {
  return cached(
    join(cache, `kernel-${target.name}-${debian}.json`),
    // Earlier versions of this file stored no modules.
    ({ image, config, modules = [""] }) =>
      [image, config, ...modules].every((path) => existsSync(path)),
    () => findKernel(target, debian, cache),
  );
}

async function findKernel(target: Target, debian: string, cache: string): Promise<Kernel> {
  const archive = new Archive(target.suite, debian, cache);
  await archive.update();
  const names = new Set([`linux-image-cloud-${debian}`]);
  // The loop also iterates names that it adds to the set.
  for (const name of names) {
    for (const dependency of await archive.dependencies(name)) {
      if (partOfKernel.test(dependency)) names.add(dependency);
    }
  }
  const folders: string[] = [];
  for (const name of names) folders.push(await archive.unpacked(name));
  const image = find(folders, /^vmlinuz/);
  const config = find(folders, /^config/);
  const release = /(?:vmlinuz-|modules\/)([^/]+)/.exec(image)?.[1] ?? "";
  const modules = moduleNames.map((name) => find(folders, new RegExp(`^${name}\\.ko`)));
  return { target, release, image, config, modules };
}

function find(folders: readonly string[], name: RegExp): string {
  for (const folder of folders) {
    for (const path of readdirSync(folder, { recursive: true, encoding: "utf8" })) {
      if (name.test(path.slice(path.lastIndexOf("/") + 1))) return join(folder, path);
    }
  }
  throw new Error(`none of the packages has a file ${name}: ${folders.join(", ")}`);
}
