import { join } from "node:path";
import { packageRoot, type Run, runBun } from "../support/run.ts";

/** Timeout in milliseconds of a test that starts a few processes, each of which may wait for a processor. Bun resets it after each file. */
export const commandTimeout = 120_000;

/** Path of the command: on emulated machines that of the bundle, which starts faster. */
export const mainFile = join(
  packageRoot,
  process.env["BUN_BPF_GUEST"] === undefined ? "src/cli/main.ts" : "dist/cli.js",
);

/** Runs the command with the given arguments until it ends. */
export function cli(
  args: readonly (string | number)[],
  options: { preload?: string; env?: Record<string, string> } = {},
): Promise<Run> {
  const { preload, env = {} } = options;
  const before = preload === undefined ? [] : ["--preload", preload];
  return runBun([...before, mainFile, ...args.map(String)], { env });
}

/** Returns the parsed JSON output of the command. @throws {Error} if the command fails. */
export async function cliJson<T>(args: readonly (string | number)[]): Promise<T> {
  const { stdout, stderr, exitCode } = await cli([...args, "--json"]);
  if (exitCode !== 0 || stderr !== "") throw new Error(`exit status ${exitCode}: ${stderr}`);
  return JSON.parse(stdout) as T;
}

/** Returns the output of the command. @throws {Error} if the command fails. */
export async function cliText(args: readonly (string | number)[]): Promise<string> {
  const { stdout, stderr, exitCode } = await cli(args);
  if (exitCode !== 0 || stderr !== "") throw new Error(`exit status ${exitCode}: ${stderr}`);
  return stdout;
}
