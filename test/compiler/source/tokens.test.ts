import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { tokenizer } from "acorn";
import ts from "typescript";
import { tokenize } from "../../../src/compiler/source/tokens.ts";
import { packageRoot } from "../../support/run.ts";
import { anySeed, randomNumbers } from "../../support/random_numbers.ts";

const values = (text: string): string[] => tokenize(text).map(({ value }) => value);

/** Returns names, strings, numbers and regular expressions with their places, as a parser finds them, and the ranges of templates. */
function parse(text: string): { tokens: string[]; templates: [start: number, end: number][] } {
  const file = ts.createSourceFile("x.ts", text, ts.ScriptTarget.Latest, true);
  const tokens: string[] = [];
  const templates: [number, number][] = [];
  const visit = (node: ts.Node): void => {
    const { kind } = node;
    const [start, end] = [node.getStart(), node.getEnd()];
    const isKeyword = kind >= ts.SyntaxKind.FirstKeyword && kind <= ts.SyntaxKind.LastKeyword;
    if (isKeyword || ts.isIdentifier(node) || ts.isPrivateIdentifier(node)) {
      tokens.push(`${start}: ${text.slice(start, end)}`);
    } else if (ts.isTemplateLiteralToken(node)) {
      templates.push([start, end]);
    } else if (ts.isLiteralExpression(node)) {
      tokens.push(`${start}: ${text.slice(start, end)}`);
    }
    // Comments with types are children as well.
    for (const child of node.getChildren()) if (!ts.isJSDoc(child)) visit(child);
  };
  visit(file);
  return { tokens, templates };
}

/** Returns the same from the tokenizer. */
function tokenized(text: string, templates: readonly [start: number, end: number][]): string[] {
  return tokenize(text)
    .filter(({ kind }) => kind !== "punctuation")
    .filter(({ start: at }) => !templates.some(([start, end]) => at >= start && at < end))
    .map(({ start, end }) => `${start}: ${text.slice(start, end)}`);
}

describe("values", () => {
  test.each<[string, string[]]>([
    [`"a\\x41\\u0042\\u{43}\\n\\'\\\n" 'b"c'`, ["aABC\n'", 'b"c']],
    [
      "1_000 0x10 1e3 .5 0x1_0n 10n 5..toString 0b11",
      ["1000", "16", "1000", "0.5", "16n", "10n", "5", ".", "toString", "3"],
    ],
    [
      "a >>> b >= c => d?.e ?? f ** g",
      ["a", ">", ">", ">", "b", ">", "=", "c", "=>", "d", "?.", "e", "??", "f", "**", "g"],
    ],
    [
      "`a${b + `c${d}`}e` `` `f`",
      [
        "`",
        "a",
        "${",
        "b",
        "+",
        "`",
        "c",
        "${",
        "d",
        "}",
        "`",
        "}",
        "e",
        "`",
        "`",
        "`",
        "`",
        "f",
        "`",
      ],
    ],
    [
      'x = a / b / c; y = /[/"]\\/d/g.test(e)',
      ["x", "=", "a", "/", "b", "/", "c", ";", "y", "=", '/[/"]\\/d/g', ".", "test", "(", "e", ")"],
    ],
    ["return /a'/ // comment's\n/* it's */ b", ["return", "/a'/", "b"]],
    ["\\u0041b #private 世界 $_ a\u00a0b", ["Ab", "#private", "世界", "$_", "a", "b"]],
    [
      "x<Array<Map<K, V>>>(y)",
      ["x", "<", "Array", "<", "Map", "<", "K", ",", "V", ">", ">", ">", "(", "y", ")"],
    ],
  ])("%s", (text, expected) => {
    expect(values(text)).toEqual(expected);
  });

  test("line ends of all systems are equal in strings that continue", () => {
    expect(values('"a\\\r\nb"')).toEqual(["ab"]);
    expect(values('"a\\\nb"')).toEqual(["ab"]);
  });

  test("what is not closed ends at the end of the line or of the text", () => {
    expect(values(`it's\nnext`)).toEqual(["it", "s", "next"]);
    expect(values("`a${")).toEqual(["`", "a", "${"]);
    expect(values("`a\\")).toEqual(["`", "a\\"]);
    expect(values("'a\\")).toEqual(["a\\"]);
    expect(values("/* a")).toEqual([]);
    expect(values("} ] )")).toEqual(["}", "]", ")"]);
  });
});

test("names and literals of all files of the library are those that TypeScript finds", () => {
  let count = 0;
  for (const name of new Bun.Glob("src/{asm,compiler}/**/*.ts").scanSync(packageRoot)) {
    const text = readFileSync(join(packageRoot, name), "utf8");
    const { tokens: expected, templates } = parse(text);
    const found = tokenized(text, templates);
    const difference = found.findIndex((each, index) => each !== expected[index]);
    expect({ name, difference, found: found[difference] }).toEqual({
      name,
      difference: -1,
      found: undefined,
    });
    expect(found.length).toBe(expected.length);
    count += found.length;
  }
  expect(count).toBeGreaterThan(10_000);
});

test("tokens of JavaScript are those that acorn finds", () => {
  const text = readFileSync(join(packageRoot, "node_modules/acorn/dist/acorn.mjs"), "utf8");
  const ours = tokenize(text).map(({ start }) => start);
  const theirs: number[] = [];
  for (const { start, end } of tokenizer(text, { ecmaVersion: "latest", sourceType: "module" })) {
    theirs.push(start);
    // Each `>` is a token.
    const [, first = "", rest = ""] = /^(>|=(?=>$)|[^>])(>*=?)$/.exec(text.slice(start, end)) ?? [];
    if (first === ">") for (let at = 1; at <= rest.length; at++) theirs.push(start + at);
  }
  const merged = new Set(theirs);
  const difference = ours.findIndex((start) => !merged.has(start));
  expect(text.slice(ours[difference] ?? text.length).slice(0, 50)).toBe("");
  expect(ours.length).toBeGreaterThan(30_000);
});

test("every text has tokens, in order, with only comments and white space between them", () => {
  const seed = anySeed();
  console.log(`seed ${seed}`);
  const random = randomNumbers(seed);
  const parts = [
    "a",
    "'",
    '"',
    "`",
    "${",
    "{",
    "}",
    "/",
    "*",
    "\\",
    "\n",
    "\r\n",
    "1",
    ".",
    "#",
    "(",
    ")",
    "é",
    "😀",
    "\u2028",
    " ",
    "n",
    "=",
    ">",
    "[",
    "]",
    "\\u{",
    "\ud800",
  ];
  for (let round = 0; round < 3000; round++) {
    const text = Array.from({ length: random(40) }, () => parts[random(parts.length)]).join("");
    let end = 0;
    for (const token of tokenize(text)) {
      expect(token.start, text).toBeGreaterThanOrEqual(end);
      expect(token.end, text).toBeGreaterThan(token.start);
      end = token.end;
    }
    expect(end).toBeLessThanOrEqual(text.length);
  }
});
