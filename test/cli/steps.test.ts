import { expect, test } from "bun:test";
import { runSteps } from "../../src/cli/command_line.ts";

const signals = ["SIGINT", "SIGTERM", "SIGHUP"] as const;
const listeners = (): number[] => signals.map((signal) => process.listenerCount(signal));

test("steps run in their order, and signal handlers are removed", async () => {
  const before = listeners();
  const taken: (number | string)[] = [];
  await runSteps([() => taken.push(1), () => taken.push(2)], () => taken.push("end"));
  expect(taken).toEqual([1, 2, "end"]);
  expect(listeners()).toEqual(before);
});

test("a step that fails is the last one, and signal handlers are removed", async () => {
  const before = listeners();
  const taken: string[] = [];
  const fail = (): never => {
    throw new Error("no");
  };
  const steps = runSteps([fail, () => taken.push("next")], () => taken.push("end"));
  await expect(steps).rejects.toThrow("no");
  expect(taken).toEqual(["end"]);
  expect(listeners()).toEqual(before);
});
