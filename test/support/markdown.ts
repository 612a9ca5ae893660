/** @module The documentation pages, and the parts of them that tests check: code blocks, links, headings, inline code. */

import { existsSync, readFileSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import { packageRoot } from "./run.ts";

/** A Markdown page of the repository. */
export interface Page {
  /** Path from the root of the package: `docs/maps.md`. */
  readonly path: string;
  readonly text: string;
}

/** A fenced block of code. */
export interface CodeBlock {
  readonly language: string;
  readonly code: string;
  /** The number of its first line in the page, from 1. */
  readonly line: number;
}

/** A link to another page or file of the repository, or to a heading. */
interface Link {
  /** The target as the page has it: `maps.md#keys`. */
  readonly target: string;
  /** The path from the root of the package. */
  readonly path: string;
  /** The part after the `#`; empty for none. */
  readonly heading: string;
}

/** All pages for users and contributors. */
export const pages: readonly Page[] = ["*.md", "docs/**/*.md", ".github/**/*.md"]
  .flatMap((pattern) => [...new Bun.Glob(pattern).scanSync({ cwd: packageRoot, dot: true })])
  .sort()
  .map((path) => ({ path, text: readFileSync(join(packageRoot, path), "utf8") }));

/** Returns a page. @throws {Error} if it does not exist. */
export function pageAt(path: string): Page {
  const page = pages.find((candidate) => candidate.path === path);
  if (page === undefined) throw new Error(`there is no page ${path}`);
  return page;
}

const fence = /^( *)```(\w*)[^\n]*\n([\s\S]*?)^\1```$/gm;

/** Returns the code blocks of a page, without the indentation that they have in lists. */
export function blocksOf({ text }: Page): CodeBlock[] {
  return [...text.matchAll(fence)].map(({ index, 1: indentation = "", 2: language, 3: body }) => ({
    language: language as string,
    code: (body as string).replaceAll(new RegExp(`^${indentation}`, "gm"), ""),
    line: text.slice(0, index).split("\n").length + 1,
  }));
}

/** Returns the files that a page shows, by name: the first line of their blocks is a comment with the name alone. */
export function namedFilesOf(page: Page): ReadonlyMap<string, string> {
  const files = new Map<string, string>();
  for (const { code } of blocksOf(page)) {
    const name = /^(?:\/\/|#) ([\w./-]+\.\w+)\n/.exec(code)?.[1];
    if (name !== undefined) files.set(name, code);
  }
  return files;
}

/** Returns the text of a page without its code blocks and comments. */
function proseOf({ text }: Page): string {
  return text.replace(fence, "").replace(/<!--[\s\S]*?-->/g, "");
}

/** Returns the pieces of inline code of a page. */
export function inlineCodeOf(page: Page): string[] {
  return [...proseOf(page).matchAll(/(?<!`)`([^`\n]+)`(?!`)/g)].map(([, code]) => code as string);
}

/** Returns the links of a page that lead into the repository. */
export function linksOf(page: Page): Link[] {
  const prose = proseOf(page).replace(/(?<!`)`[^`\n]+`(?!`)/g, "code");
  const patterns = [
    /\]\(\s*<?([^)\s>]+)/g,
    /^\s*\[[^\]]+\]:\s*(\S+)/gm,
    /\b(?:href|src)="([^"]+)"/g,
  ];
  const targets = patterns.flatMap((pattern) =>
    [...prose.matchAll(pattern)].map(([, target]) => target as string),
  );
  return targets
    .filter((target) => !/^[a-z][a-z+.-]*:/i.test(target))
    .map((target) => {
      const [path = "", heading = ""] = target.split("#", 2);
      const full = path === "" ? page.path : normalize(join(dirname(page.path), decodeURI(path)));
      return { target, path: full, heading };
    });
}

/** Returns the names by which links reach the headings of a page, as GitHub makes them. */
export function headingsOf(page: Page): ReadonlySet<string> {
  const names = new Set<string>();
  for (const [, heading] of proseOf(page).matchAll(/^#{1,6} (.+)$/gm)) {
    const name = (heading as string)
      .replace(/\[([^\]]*)\]\([^)]*\)/g, "$1")
      .trim()
      .toLowerCase()
      .replace(/[^\p{L}\p{N}\p{M}_ -]/gu, "")
      .replaceAll(" ", "-");
    let unique = name;
    for (let count = 1; names.has(unique); count++) unique = `${name}-${count}`;
    names.add(unique);
  }
  return names;
}

/** Describes the fault of a link; `undefined` if the target of the link exists. */
export function brokenLink({ path, heading, target }: Link): string | undefined {
  if (path.startsWith("..") || !existsSync(join(packageRoot, path))) {
    return `${target}: there is no ${path}`;
  }
  if (heading === "" || !path.endsWith(".md")) return undefined;
  return headingsOf(pageAt(path)).has(heading)
    ? undefined
    : `${target}: ${path} has no such heading`;
}

/** Returns the part of a page from a heading to the next one of the same or a higher level, without the heading. */
export function sectionOf({ path, text }: Page, heading: string): string {
  const lines = text.split("\n");
  const start = lines.findIndex(
    (line) => /^#+ /.test(line) && line.replace(/^#+ /, "") === heading,
  );
  if (start === -1) throw new Error(`${path} has no heading ${heading}`);
  const level = (lines[start] as string).indexOf(" ");
  const rest = lines.slice(start + 1);
  const end = rest.findIndex((line) => /^#+ /.test(line) && line.indexOf(" ") <= level);
  return rest.slice(0, end === -1 ? undefined : end).join("\n");
}

/** Returns the headings of the columns of the first table in a text. */
export function tableHead(text: string): string[] {
  return tableLines(text)[0] ?? [];
}

/** Returns the rows of the first table in a text, without its head: the cells of each. */
export function tableRows(text: string): string[][] {
  return tableLines(text).slice(2);
}

/** Returns the cells of each line of the first table in a text: its head, the line below the head, and its rows. */
function tableLines(text: string): string[][] {
  const [table = ""] = /^\|.*(?:\n\|.*)*/m.exec(text) ?? [];
  // A `|` in a cell is escaped.
  const cellsOf = (line: string) => line.split(/(?<!\\)\|/).slice(1, -1);
  return table.split("\n").map((line) => cellsOf(line).map((cell) => cell.trim()));
}
