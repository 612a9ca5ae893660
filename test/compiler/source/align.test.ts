import { describe, expect, test } from "bun:test";
import { align } from "../../../src/compiler/source/align.ts";
import { type Token, tokenize } from "../../../src/compiler/source/tokens.ts";
import { anySeed, randomNumbers } from "../../support/random_numbers.ts";

/** Returns the pairs as texts: the token, and the offset of its equal. */
function pairsOf(from: string, to: string): (string | number)[][] {
  const [a, b] = [tokenize(from), tokenize(to)];
  return Array.from(align(a, b), (pair, index) => [a[index]!.value, b[pair]?.start ?? -1]);
}

/** Returns the length of the longest common subsequence, by the textbook. */
function longest(a: readonly Token[], b: readonly Token[]): number {
  let above = new Array<number>(b.length + 1).fill(0);
  for (const { value } of a) {
    const row = [0];
    b.forEach((other, index) => {
      row.push(
        other.value === value ? above[index]! + 1 : Math.max(above[index + 1]!, row[index]!),
      );
    });
    above = row;
  }
  return above.at(-1)!;
}

describe("alignment", () => {
  test("leaves out what only one has", () => {
    expect(pairsOf("a(b, 1)", "a<T>(b as T, !0, 1)")).toEqual([
      ["a", 0],
      ["(", 4],
      ["b", 5],
      [",", 15],
      ["1", 17],
      [")", 18],
    ]);
  });

  test("prefers names to punctuation", () => {
    expect(pairsOf(", , name", "name , ,").at(-1)).toEqual(["name", 0]);
  });

  test("keeps the tokens of an expression together", () => {
    // The first `ctx.pid` is in a branch that was removed.
    const [, ...pairs] = pairsOf("x = ctx.uid", "x = ctx.pid; y = ctx.uid");
    expect(pairs.at(-1)).toEqual(["uid", 21]);
    expect(pairs.at(-3)).toEqual(["ctx", 17]);
  });

  test("compares strings, names and numbers by value", () => {
    expect(pairsOf(`x.abc + 16 + "a'b"`, `x["abc"] + 0x10 + 'a\\'b'`).map(([, at]) => at)).toEqual([
      0, -1, 2, 9, 11, 16, 18,
    ]);
  });

  test("pairs equal tokens in order, and nearly as many as possible", () => {
    const seed = anySeed();
    console.log(`seed ${seed}`);
    const random = randomNumbers(seed);
    for (let round = 0; round < 60; round++) {
      const names = 20 + random(60);
      const make = (count: number): string[] =>
        Array.from({ length: count }, () => `n${random(names)}`);
      const a = make(random(300));
      // Some tokens are removed, and others inserted.
      const b = a.flatMap((name) =>
        random(5) === 0 ? [] : random(4) === 0 ? [name, ...make(2)] : [name],
      );
      const [from, to] = [tokenize(a.join(" ")), tokenize(b.join(" "))];
      const pairs = [...align(from, to)];
      let last = -1;
      pairs.forEach((pair, index) => {
        if (pair < 0) return;
        expect(pair).toBeGreaterThan(last);
        expect(to[pair]!.value).toBe(from[index]!.value);
        last = pair;
      });
      const count = pairs.filter((pair) => pair >= 0).length;
      // Anchors may cost a few pairs.
      expect(count).toBeGreaterThanOrEqual(Math.floor(longest(from, to) * 0.9));
    }
  });

  test("long texts without anything in common end within the budget", () => {
    const many = (name: string): Token[] => tokenize(`${name} `.repeat(50_000));
    expect(align(many("a b"), many("b c")).length).toBe(100_000);
    expect([...align(many("a"), many("b"))].every((pair) => pair === -1)).toBe(true);
  });
});
