import { join } from "node:path";
import { packageRoot, type Run, runBun } from "../support/run.ts";

/** Milliseconds: a test starts a few processes, each of which may have to wait for a processor. Bun forgets it behind each file. */
export const commandTimeout = 120_000;

/** The command's file: on emulated machines in one piece, as it is published, since that starts sooner. */
export const mainFile = join(
  packageRoot,
  process.env["BUN_BPF_GUEST"] === undefined ? "src/cli/main.ts" : "dist/cli.js",
);

/** Runs the command with these arguments, to its end. */
export function cli(
  args: readonly (string | number)[],
  options: { preload?: string; env?: Record<string, string> } = {},
): Promise<Run> {
  const { preload, env = {} } = options;
  const before = preload === undefined ? [] : ["--preload", preload];
  return runBun([...before, mainFile, ...args.map(String)], { env });
}

/** What the command prints as JSON. @throws {Error} when it fails */
export async function cliJson<T>(args: readonly (string | number)[]): Promise<T> {
  const { stdout, stderr, exitCode } = await cli([...args, "--json"]);
  if (exitCode !== 0 || stderr !== "") throw new Error(`exit status ${exitCode}: ${stderr}`);
  return JSON.parse(stdout) as T;
}

/** What the command prints. @throws {Error} when it fails */
export async function cliText(args: readonly (string | number)[]): Promise<string> {
  const { stdout, stderr, exitCode } = await cli(args);
  if (exitCode !== 0 || stderr !== "") throw new Error(`exit status ${exitCode}: ${stderr}`);
  return stdout;
}
