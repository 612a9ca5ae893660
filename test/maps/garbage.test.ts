import { describe, expect } from "bun:test";
import { bpfObstacle } from "../support/privilege.ts";
import { runBun } from "../support/run.ts";
import { isGuest, testUnless } from "../support/skipping.ts";

/** Test of the engine's garbage collections. */
const engineTest = testUnless(
  isGuest ? "it tests the engine, independent of the kernel" : bpfObstacle,
);

/** Returns the sizes of the heap in KiB at the start of each collection while a child repeats one operation. */
async function collections(what: string): Promise<number[]> {
  const { stderr, exitCode } = await runBun(["test/maps/children/heap.ts", what], {
    env: { BUN_JSC_logGC: "1" },
  });
  expect({ stderr: exitCode === 0 ? "" : stderr, exitCode }).toEqual({ stderr: "", exitCode: 0 });
  const log = stderr.slice(stderr.indexOf("BEGIN\n"), stderr.lastIndexOf("END\n"));
  return [...log.matchAll(/: START M (\d+)kb/g)].map((match) => Number(match[1]));
}

describe("a million calls with numbers", () => {
  engineTest("cause collections if each leaves an object", async () => {
    expect(await collections("an object each")).not.toEqual([]);
    expect(await collections("nothing")).toEqual([]);
  });

  for (const operation of [
    "HashMap.get",
    "HashMap.get of an absent key",
    "HashMap.set",
    "HashMap.has",
    "HashMap.add and delete",
    "HashMap.take",
    "ArrayMap.get",
    "ArrayMap.load",
    "ArrayMap.store",
  ]) {
    engineTest(`cause no collection: ${operation}`, async () => {
      expect(await collections(operation)).toEqual([]);
    });
  }
});

describe("iteration over a million entries", () => {
  for (const walk of ["entries", "keys", "values", "entriesInBatches", "takeAllInBatches"]) {
    engineTest(
      `keeps the heap under 16 MiB: ${walk}`,
      async () => {
        const sizes = await collections(walk);
        // The pair for each entry causes collections.
        if (walk === "entries") expect(sizes).not.toEqual([]);
        expect(Math.max(0, ...sizes)).toBeLessThan(16 * 1024);
      },
      60_000,
    );
  }
});
