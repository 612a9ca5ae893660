/** Compares the table of map classes in docs/maps.md with the classes. */
import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { isVersionSince, type KernelVersion } from "../src/ffi/kernel.ts";
import { ArrayOfMaps, HashOfMaps } from "../src/index.ts";
import { simpleClasses } from "../src/kinds/classes.ts";
import { mapTypes, type MapTypeName } from "../src/maps/map_types.ts";
import { pageAt, sectionOf, tableHead, tableRows } from "./support/markdown.ts";
import { packageRoot } from "./support/run.ts";

interface MapRow {
  readonly className: string;
  readonly type: string;
  /** Cells of the row, by the heading of the column. */
  readonly cells: ReadonlyMap<string, string>;
}

const names = (text: string) => [...text.matchAll(/`(\w+)`/g)].map((match) => match[1] as string);

const table = sectionOf(pageAt("docs/maps.md"), "Classes and their operations");
const headings = tableHead(table);
const rows = tableRows(table).map((row): MapRow => {
  const cells = new Map(row.map((cell, column) => [headings[column] as string, cell]));
  const [className = ""] = names(cells.get("class") ?? "");
  const type = cells.get("`type`")?.replaceAll("`", "") ?? "";
  return { className, type, cells };
});
const classes: Record<string, { readonly name: string; readonly prototype: object }> = {
  ...simpleClasses,
  hash_of_maps: HashOfMaps,
  array_of_maps: ArrayOfMaps,
};

/** The methods of headings that are not names of methods. */
const methodsByHeading: Record<string, readonly string[]> = {
  iterate: ["entries", "keys", "count"],
};
const unchecked = new Set(["class", "`type`", "kernel", "for", "more"]);

const sources = ["maps", "ring", "kinds"]
  .flatMap((folder) => [...new Bun.Glob(`src/${folder}/*.ts`).scanSync(packageRoot)])
  .map((path) => readFileSync(join(packageRoot, path), "utf8"));

/** Returns the kernel version in the last line of the documentation of a class. */
function documentedVersion(className: string): string | undefined {
  const ending = new RegExp(
    `\\* Requires Linux ([\\d.]+\\d)(?:(?!\\*/)[^])*\\*/\\nexport class ${className}\\b`,
  );
  return sources.map((source) => ending.exec(source)?.[1]).find((version) => version !== undefined);
}

describe("the table of map classes in docs/maps.md", () => {
  test("has a row for each map type, with its class", () => {
    expect(Object.fromEntries(rows.map(({ type, className }) => [type, className]))).toEqual(
      Object.fromEntries(Object.entries(classes).map(([type, { name }]) => [type, name])),
    );
    expect(rows.length).toBe(Object.keys(classes).length);
  });

  for (const { className, type, cells } of rows) {
    test(`has the kernel version that the documentation of ${className} has`, () => {
      const version = cells.get("kernel") as KernelVersion;
      expect(version).toBe(documentedVersion(className) as KernelVersion);
      expect(isVersionSince(version, "4.13")).toBe(true);
      const { since } = mapTypes.get(type as MapTypeName) as { since: KernelVersion };
      expect(isVersionSince(version, since)).toBe(true);
    });

    test(`lists the methods of ${className}`, () => {
      const { prototype } = classes[type] as { prototype: object };
      for (const [heading, cell] of cells) {
        if (unchecked.has(heading)) continue;
        for (const method of methodsByHeading[heading] ?? names(heading)) {
          const isElsewhere = names(cells.get("more") ?? "").includes(method);
          expect({ method, has: method in prototype }).toEqual({
            method,
            has: cell === "yes" || isElsewhere,
          });
        }
      }
      for (const method of names(cells.get("more") ?? "")) {
        expect({ method, has: method in prototype }).toEqual({ method, has: true });
      }
    });
  }
});
