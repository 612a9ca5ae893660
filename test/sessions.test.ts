/** The sessions in docs/command.md are what the command prints. */
import { beforeAll, describe, expect, test } from "bun:test";
import { commandTimeout } from "./cli/run_cli.ts";
import {
  comparable,
  runCommands,
  sessionsPage,
  type Step,
  stepsOf,
  withOwnBpffs,
} from "./sessions.ts";
import { commandObstacle, failureOf } from "./support/commands.ts";
import { bpfObstacle } from "./support/privilege.ts";
import { hostObstacle, testUnless } from "./support/skipping.ts";

const obstacle =
  hostObstacle ??
  bpfObstacle ??
  commandObstacle("jq") ??
  commandObstacle("flock") ??
  failureOf(...(withOwnBpffs("true") as [string]));

test("outputs are compared without numbers that the kernel assigns and rows of other objects", () => {
  const documented = "ID  TYPE  NAME        MEMORY  OWNERS\n12  hash  peer_counts  1 KiB  bun(7)\n";
  const printed =
    "    ID  TYPE  NAME        MEMORY  OWNERS\n 99  hash  other  1 KiB  x(1)\n9812  hash  peer_counts  2.0 MiB  bun(99)\n";
  expect(comparable(printed)).toBe(comparable(documented));
  expect(comparable(printed.replace("hash  peer", "array  peer"))).not.toBe(comparable(documented));
  expect(comparable("12\n")).not.toBe(comparable("13\n"));
});

describe(`the sessions in ${sessionsPage}`, () => {
  const steps = stepsOf(sessionsPage);
  let printed: readonly Step[] = [];

  beforeAll(async () => {
    if (obstacle === undefined) printed = await runCommands(steps.map(({ command }) => command));
  }, commandTimeout);

  for (const [index, { command, output }] of steps.entries()) {
    // If the output changed on purpose, run: bun test/sessions.ts --write
    testUnless(obstacle)(`show what is printed by: ${command}`, () => {
      expect(comparable(printed[index]?.output ?? "")).toBe(comparable(output));
    });
  }
});
