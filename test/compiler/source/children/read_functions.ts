/** Reads functions in all forms, and prints what was read, as JSON. Each has `mark` once, after names of its own. */
import type * as Acorn from "acorn";
import { callSites } from "../../../../src/compiler/source/call_site.ts";
import { type FunctionSource, Sources } from "../../../../src/compiler/source/source.ts";

interface Context {
  readonly mark: number;
  readonly pid: number;
  readonly returned: Promise<number>;
}

/** Returns all identifiers of a syntax tree. */
function identifiers(node: unknown): Acorn.Identifier[] {
  if (typeof node !== "object" || node === null) return [];
  if ("type" in node && node.type === "Identifier") return [node as Acorn.Identifier];
  return Object.values(node).flatMap(identifiers);
}

function describeFunction(sources: Sources, source: FunctionSource): object {
  const { id, text, node, isAsync } = source;
  const names = identifiers(node);
  const mark = names.find(({ name }) => name === "mark")!;
  const { file, line, column, text: lineText } = sources.sourceOf({ source: id, ...mark });
  return {
    type: node.type,
    isAsync,
    parameters: node.params.length,
    wrongNames: names.filter(({ name, start, end }) => text.slice(start, end) !== name).length,
    place: { file: file.replace(/^.*\//, ""), line, column, text: lineText },
  };
}

export function read(programs: Record<string, unknown>): string {
  const sources = new Sources(callSites(read));
  const results = Object.entries(programs).map(([place, fn]) => {
    const source = sources.read(fn as Function, place);
    return [place, describeFunction(sources, source)] as const;
  });
  return JSON.stringify(Object.fromEntries(results));
}

const computed = ["computed", "name"].join(" ");

function declared(ctx: Context): number {
  return ctx.mark;
}

class Methods {
  static ofClass(ctx: Context): number {
    return ctx.mark;
  }

  static #hidden(ctx: Context): number {
    return ctx.mark;
  }

  static get hidden(): unknown {
    return Methods.#hidden;
  }
}

const output: string = read({
  declared,
  expression: function (ctx: Context): number {
    return ctx.mark;
  },
  named: async function inner(ctx: Context): Promise<number> {
    return ctx.mark + (await ctx.returned);
  },
  arrow: (ctx: Context): number => ctx.mark,
  "async arrow": async (ctx: Context, { limit }: { limit: number }): Promise<number> => {
    const ret = await ctx.returned;
    return ret > limit ? ctx.mark : 0;
  },
  "tp/sched/sched_switch"(ctx: Context, { limit }: { limit: number }): number {
    // A comment, which is not in the text of the function.
    const pid: number = ctx.pid;

    return pid > limit ? ctx.mark : 0;
  },
  async "ksyscall/{open,openat}"(ctx: Context): Promise<number> {
    const ret = await ctx.returned;
    return ret + ctx.mark;
  },
  method(ctx: Context): number {
    return ctx.mark;
  },
  [computed](ctx: Context): number {
    return ctx.mark;
  },
  async(ctx: Context): number {
    return ctx.mark;
  },
  get(ctx: Context): number {
    return ctx.mark;
  },
  function(ctx: Context): number {
    return ctx.mark;
  },
  class(ctx: Context): number {
    return ctx.mark;
  },
  17(ctx: Context): number {
    return ctx.mark;
  },
  ofClass: Methods.ofClass,
  hidden: Methods.hidden,
});

if (import.meta.main) console.log(output);
export { output };
