import { readFileSync } from "node:fs";
import { DetachedMount } from "./mount.ts";

/** Fixed when the kernel boots. */
let cached: readonly string[] | undefined;

/**
 * The names of the kernel's active security modules (kernel 4.11); `undefined` where they cannot be read: securityfs is not
 * mounted, and this process may not mount it for itself.
 */
export function activeSecurityModules(): readonly string[] | undefined {
  cached ??= (readList("/sys/kernel/security") ?? readPrivately())?.trim().split(",");
  return cached;
}

function readList(folder: string): string | undefined {
  try {
    return readFileSync(`${folder}/lsm`, "utf8");
  } catch {
    return undefined;
  }
}

function readPrivately(): string | undefined {
  try {
    using mount = new DetachedMount("securityfs");
    return readList(mount.path);
  } catch {
    return undefined;
  }
}
