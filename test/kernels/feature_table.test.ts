import { expect, test } from "bun:test";
import { isVersionSince, type KernelVersion } from "../../src/ffi/kernel.ts";
import { type Feature, features } from "../../src/index.ts";
import { testUnless } from "../support/skipping.ts";
import { begin, tablePage } from "./feature_table.ts";
import { readTable } from "./table.ts";

const [header = [], ...rows] = readTable(tablePage, begin);
const kernels = header.slice(2) as KernelVersion[];

const obstacle =
  process.arch === "x64"
    ? undefined
    : "some features came later to this architecture than to x86-64, whose table it is";

const groups: Readonly<Record<string, { get(name: never): Feature }>> = {
  "map type": features.mapTypes,
  "program type": features.programTypes,
  "way to attach": features.attachKinds,
  instructions: features.instructions,
  fix: features.fixes,
};

/** Returns the features of a row in the table; a row of operations has several. */
function featuresOf(row: string): Feature[] {
  const names = Array.from(row.matchAll(/`([^`]+)`/g), ([, name]) => name as never);
  const operation = /^`[^`]+` of `/.test(row) ? names.shift() : undefined;
  if (operation !== undefined) {
    return names.map((type) => features.mapOperations(type).get(operation));
  }
  const group = groups[row.replace(/ `.*/, "")];
  return names.map((name) => group?.get(name)).filter((feature) => feature !== undefined);
}

testUnless(obstacle)("the table of features has the library's first versions", () => {
  const versioned = rows.filter(([, since]) => since !== "");
  expect(versioned.length).toBeGreaterThan(50);
  for (const [row = "", since] of versioned) {
    const versions = featuresOf(row).map((feature) => feature.since);
    expect(new Set(versions), row).toEqual(new Set([since as KernelVersion]));
  }
});

test("no kernel in the table has a feature before the version that introduced it", () => {
  for (const [row = "", since = "", ...cells] of rows) {
    if (since === "" || featuresOf(row).some((feature) => feature.isBackported)) continue;
    const haveIt = kernels.filter((_, index) => cells[index] === "yes");
    const tooEarly = haveIt.filter((kernel) => !isVersionSince(kernel, since as KernelVersion));
    expect(tooEarly, row).toEqual([]);
  }
});
