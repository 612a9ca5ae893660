/** @module Child processes for which a folder of /sys or /proc is empty. */
import { failureOf } from "./commands.ts";
import { type Run, run } from "./run.ts";

/** The reason for which a child cannot have a separate mount namespace here, or `undefined`. */
export const mountObstacle: string | undefined = failureOf("unshare", "--mount", "true");

/** Runs Bun in a new mount namespace in which a folder is empty. */
export function runBunWithout(folder: string, args: readonly string[]): Promise<Run> {
  const hide = 'mount -t tmpfs none "$0" && exec "$@"';
  return run(["unshare", "--mount", "sh", "-c", hide, folder, process.execPath, ...args]);
}
