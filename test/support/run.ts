import { join } from "node:path";

/** The root folder of the package. */
export const packageRoot = join(import.meta.dir, "../..");

/** The result of a command. */
export interface Run {
  readonly exitCode: number | null;
  readonly signalCode: NodeJS.Signals | number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a command to its end, for at most `timeout` milliseconds. */
export async function run(
  command: readonly string[],
  options: { cwd?: string; timeout?: number; env?: Record<string, string> } = {},
): Promise<Run> {
  const { cwd = packageRoot, timeout = 60_000, env = {} } = options;
  const child = Bun.spawn([...command], {
    cwd,
    timeout,
    env: { ...process.env, ...env },
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
  const [stdout, stderr] = await Promise.all([child.stdout.text(), child.stderr.text()]);
  await child.exited;
  return { exitCode: child.exitCode, signalCode: child.signalCode, stdout, stderr };
}

/** Runs Bun itself with these arguments. */
export function runBun(
  args: readonly string[],
  options: Parameters<typeof run>[1] = {},
): Promise<Run> {
  return run([process.execPath, ...args], options);
}
