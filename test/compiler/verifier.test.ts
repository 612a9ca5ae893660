/** Messages for functions that compile, and that only the verifier rejects. */
import { expect } from "bun:test";
import { readFileSync } from "node:fs";
import { callSites } from "../../src/compiler/source/call_site.ts";
import { ScopeMaps } from "../../src/compiler/language/translate.ts";
import { compileFunction } from "../../src/compiler/pipeline.ts";
import { Sources } from "../../src/compiler/source/source.ts";
import { targetOf } from "../../src/compiler/machine/target.ts";
import { ArrayMap, Program, t, VerifierError } from "../../src/index.ts";
import { bpfTest } from "../support/privilege.ts";

interface Context {
  readonly random: number;
}
interface Scope {
  readonly numbers: { set(index: number, value: number): boolean };
}

/** Loads a function that was compiled for Linux 5.10, whose code has no `may_goto`: the verifier follows each iteration. */
function loadForOldKernel(
  scope: object,
  fn: (context: Context, scope: Scope) => number,
): Program<"socket"> {
  const maps = new ScopeMaps();
  const spec = compileFunction({
    sources: new Sources(callSites(loadForOldKernel)),
    fn: fn as never,
    place: "socket",
    section: "socket",
    scope: scope as Readonly<Record<string, unknown>>,
    maps,
    target: targetOf("5.10"),
    probe: "socket",
  });
  return new Program({ ...spec, maps: Object.fromEntries(maps.maps) as never }) as never;
}

bpfTest("a function that is too complex is shown in TypeScript", () => {
  using numbers = new ArrayMap({ value: t.i32, length: 8 });
  let error: unknown;
  try {
    using _program = loadForOldKernel({ numbers }, (ctx: Context, scope: Scope): number => {
      let a = 0;
      let b = 0;
      for (let i = 0; i < 4000; i++) {
        const random: number = ctx.random;
        if (random & 1) a = i;
        if (random & 2) b = i;
        if (a > b) a = b;
        if (random & 4) scope.numbers.set(a & 7, b);
      }
      return a;
    });
  } catch (thrown) {
    error = thrown;
  }
  expect(error).toBeInstanceOf(VerifierError);
  const { message } = error as VerifierError;
  expect(message).toContain("too complex");
  const [, line] = new RegExp(`from ${import.meta.path}:(\\d+)`).exec(message) ?? [];
  const text = readFileSync(import.meta.path, "utf8").split("\n")[Number(line) - 1];
  // The verifier stops at one of the branches of the loop.
  expect(text).toMatch(/^\s+(?:if \(|for \(let i)/);
});
