/** @module Tables in the documentation that are generated, between two comments. */

import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { packageRoot } from "../support/run.ts";

/** Returns the version of a release: `"6.12"` for `"6.12.1-amd64"`. */
export function versionOf(release: string): string {
  return /^\d+\.\d+/.exec(release)?.[0] ?? release;
}

/** Returns a Markdown table with columns of equal width. */
export function formatTable(
  header: readonly string[],
  rows: readonly (readonly string[])[],
): string {
  const widths = header.map((_, column) =>
    Math.max(...[header, ...rows].map((row) => row[column]?.length ?? 0)),
  );
  const line = (cells: readonly string[]) =>
    `| ${cells.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join(" | ")} |\n`;
  return [line(header), line(widths.map((width) => "-".repeat(width))), ...rows.map(line)].join("");
}

/**
 * Writes a text between two comments of a page.
 *
 * @param page the path, relative to the package
 * @throws {Error} if the page lacks the comments.
 */
export function writeBetween(page: string, begin: string, end: string, text: string): void {
  const path = join(packageRoot, page);
  const [before, rest] = readFileSync(path, "utf8").split(begin) as [string, string?];
  const after = rest?.split(end)[1];
  if (after === undefined) throw new Error(`${path} has no lines\n${begin}${end}`);
  writeFileSync(path, `${before}${begin}\n${text}\n${end}${after}`);
}

/** Returns the cells of the table after a comment of a page: the header and the rows. */
export function readTable(page: string, begin: string): readonly (readonly string[])[] {
  const rest = readFileSync(join(packageRoot, page), "utf8").split(begin)[1] ?? "";
  const lines = (rest.split("<!--")[0] ?? "").split("\n").filter((line) => line.startsWith("|"));
  const [header, , ...rows] = lines.map((line) =>
    line
      .split("|")
      .slice(1, -1)
      .map((cell) => cell.trim()),
  );
  return header === undefined ? [] : [header, ...rows];
}
