import { expect, test } from "bun:test";
import { runJobs } from "./matrix.ts";

const never = new AbortController().signal;

/** Waits until the signal is aborted, as an interrupted guest does. */
function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => signal.addEventListener("abort", () => resolve()));
}

test("all jobs run, at most the allowed number at a time", async () => {
  const done: number[] = [];
  let running = 0;
  let most = 0;
  await runJobs([1, 2, 3, 4, 5], 2, never, async (item) => {
    most = Math.max(most, ++running);
    await Bun.sleep(1);
    running--;
    done.push(item);
  });
  expect(done.toSorted()).toEqual([1, 2, 3, 4, 5]);
  expect(most).toBe(2);
});

test("if a job fails, the others are aborted and awaited, and its error is thrown", async () => {
  const started: string[] = [];
  const ended: string[] = [];
  const working = runJobs(["other", "bad", "late"], 2, never, async (item, signal) => {
    started.push(item);
    if (item === "bad") throw new Error("the first");
    await aborted(signal);
    await Bun.sleep(20);
    ended.push(item);
    throw new Error("a consequence");
  });
  expect(await working.catch(String)).toBe("Error: the first");
  expect({ started, ended }).toEqual({ started: ["other", "bad"], ended: ["other"] });
});

test("no job starts after an interruption, which is not an error", async () => {
  const interruption = new AbortController();
  const started: number[] = [];
  await runJobs([1, 2, 3], 1, interruption.signal, async (item, signal) => {
    started.push(item);
    interruption.abort();
    await aborted(signal);
  });
  expect(started).toEqual([1]);
});
