import { commandObstacle } from "./commands.ts";
import { type Run, run } from "./run.ts";
import { type DefineTest, testUnless } from "./skipping.ts";

/** Why there is nothing to compare with bpftool's answers. */
export const bpftoolObstacle: string | undefined = commandObstacle("bpftool");

/** A test that asks bpftool about a file, which takes no privilege: what asks about the kernel's objects needs BPF, too. */
export const bpftoolTest: DefineTest = testUnless(bpftoolObstacle);

/** Runs bpftool with these arguments, so that it prints JSON. */
export function runBpftool(...args: readonly string[]): Promise<Run> {
  return run(["bpftool", "-j", ...args]);
}

/** What bpftool answers to these arguments. @throws {Error} when it fails */
export async function bpftoolJson<T>(...args: readonly string[]): Promise<T> {
  const { stdout, stderr } = await runBpftool(...args);
  // Its status tells nothing: 7.5 ends `link show id` with that of a failure after it has answered.
  const answer = stdout === "" ? { error: stderr.trim() } : (JSON.parse(stdout) as object);
  if ("error" in answer) throw new Error(`bpftool ${args.join(" ")}: ${answer.error}`);
  return answer as T;
}
