import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { Archive } from "./archive.ts";
import { remembered } from "./remembered.ts";
import type { Architecture, Target } from "./targets.ts";

/** A kernel that can be booted. */
export interface Kernel {
  readonly target: Target;
  /** As `uname -r` prints it. */
  readonly release: string;
  /** The compressed image. */
  readonly image: string;
  /** The options that it was built with. */
  readonly config: string;
}

/** Of what a kernel's package asks for, what is a part of the kernel. */
const partOfKernel = /^linux-(?:image|binary|base)-\d/;

/** Finds a target's kernel in the archive's index, and brings it here; that of the last days, where there is one. */
export function fetchKernel(
  target: Target,
  { debian }: Architecture,
  cache: string,
): Promise<Kernel> {
  return remembered(
    join(cache, `kernel-${target.name}-${debian}.json`),
    ({ image, config }) => existsSync(image) && existsSync(config),
    () => findKernel(target, debian, cache),
  );
}

async function findKernel(target: Target, debian: string, cache: string): Promise<Kernel> {
  const archive = new Archive(target.suite, debian, cache);
  await archive.update();
  const names = new Set([`linux-image-cloud-${debian}`]);
  // A set goes on over what is added meanwhile.
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
  return { target, release, image, config };
}

function find(folders: readonly string[], name: RegExp): string {
  for (const folder of folders) {
    for (const path of readdirSync(folder, { recursive: true, encoding: "utf8" })) {
      if (name.test(path.slice(path.lastIndexOf("/") + 1))) return join(folder, path);
    }
  }
  throw new Error(`none of the packages has a file ${name}: ${folders.join(", ")}`);
}
