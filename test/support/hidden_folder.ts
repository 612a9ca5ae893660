/** @module Machines on which a folder of the kernel's is empty, as far as a child can see. */
import { failureOf } from "./commands.ts";
import { type Run, run } from "./run.ts";

/** Why a child cannot have mounts of its own, or `undefined` where it can. */
export const mountObstacle: string | undefined = failureOf("unshare", "--mount", "true");

/** Runs Bun with nothing in a folder, in a mount namespace of its own. */
export function runBunWithout(folder: string, args: readonly string[]): Promise<Run> {
  const hide = 'mount -t tmpfs none "$0" && exec "$@"';
  return run(["unshare", "--mount", "sh", "-c", hide, folder, process.execPath, ...args]);
}
