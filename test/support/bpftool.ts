import { commandObstacle } from "./commands.ts";
import { type Run, run } from "./run.ts";
import { type DefineTest, testUnless } from "./skipping.ts";

/** The reason for which bpftool cannot be run here, or `undefined`. */
export const bpftoolObstacle: string | undefined = commandObstacle("bpftool");

/** Defines a test that runs bpftool on a file, which needs no privileges. Tests of kernel objects also need `bpfTest`. */
export const bpftoolTest: DefineTest = testUnless(bpftoolObstacle);

/** Runs bpftool with these arguments and JSON output. */
export function runBpftool(...args: readonly string[]): Promise<Run> {
  return run(["bpftool", "-j", ...args]);
}

/** Runs bpftool and returns its parsed output. @throws {Error} if it fails. */
export async function bpftoolJson<T>(...args: readonly string[]): Promise<T> {
  const { stdout, stderr } = await runBpftool(...args);
  // The exit code is not reliable: bpftool 7.5 ends a successful `link show id` with that of a failure.
  const answer = stdout === "" ? { error: stderr.trim() } : (JSON.parse(stdout) as object);
  if ("error" in answer) throw new Error(`bpftool ${args.join(" ")}: ${answer.error}`);
  return answer as T;
}
