import { describe, expect, test } from "bun:test";
import { Builder } from "../../../src/compiler/ir/builder.ts";
import {
  type Block,
  type CompareOperator,
  IrFunction,
  type Loop,
  type Node,
  printFunction,
} from "../../../src/compiler/ir/ir.ts";
import { prepareLoops } from "../../../src/compiler/ir/loops.ts";
import { analyseRanges } from "../../../src/compiler/ir/ranges.ts";

const modern = { mayGoto: true };
const old = { mayGoto: false };
const position = { source: 0, start: 1, end: 2 };

class Refusal extends Error {}

const refuse = (_: unknown, message: string, hint: string): never => {
  throw new Refusal(`${message}; ${hint}`);
};

/** Functions under construction, with the control flow of JavaScript. */
class Code {
  readonly fn = new IrFunction("f", 1);
  readonly builder = new Builder(this.fn);

  /** A number that is read from memory. */
  byte(size: 1 | 2 | 4 = 1): Node {
    return this.builder.number(this.builder.load(this.context, 0, size));
  }

  readonly context = this.builder.add({ kind: "parameter", index: 0 });

  constant(value: number): Node {
    return this.builder.number(this.builder.constant(value));
  }

  add(left: Node, right: Node | number): Node {
    return this.number("add", left, right);
  }

  number(
    operator: "add" | "sub" | "mul" | "div" | "mod" | "sdiv" | "smod" | "rsh",
    left: Node,
    right: Node | number,
  ): Node {
    return this.builder.number(this.builder.binary(operator, left, right));
  }

  /** Runs `then` where a comparison is true, and goes on after it. */
  if(
    operator: CompareOperator,
    left: Node,
    right: Node | number,
    then: () => void,
    width: 32 | 64 = 64,
  ): void {
    const [block, after] = [this.fn.newBlock(), this.fn.newBlock()];
    this.builder.branchOn(operator, left, right, block, after, width);
    this.builder.continueIn(block);
    then();
    this.builder.jump(after);
    this.builder.continueIn(after);
  }

  /** Returns one of two values, by a comparison. */
  choose(
    operator: CompareOperator,
    left: Node,
    right: Node | number,
    then: () => Node,
    otherwise: () => Node,
  ): Node {
    const [a, b, after] = [this.fn.newBlock(), this.fn.newBlock(), this.fn.newBlock()];
    this.builder.branchOn(operator, left, right, a, b);
    const values = [a, b].map((block, index) => {
      this.builder.continueIn(block);
      const value = index === 0 ? then() : otherwise();
      this.builder.jump(after);
      return value;
    });
    this.builder.continueIn(after);
    return this.builder.number(this.builder.phi(after, values));
  }

  /** `while (test) body`, with variables that `body` gives new values. Returns them after the loop. */
  while(
    initial: readonly Node[],
    test: (variables: readonly Node[]) => [CompareOperator, Node, Node | number],
    body: (variables: readonly Node[]) => readonly Node[],
  ): { phis: readonly Node[]; header: Block } {
    const { builder } = this;
    const [header, inside, exit] = [0, 0, 0].map(() => this.fn.newBlock()) as [Block, Block, Block];
    const loop: Loop = { position, parent: builder.loop, maxIterations: undefined };
    header.loop = loop;
    builder.jump(header);
    builder.continueIn(header, true);
    builder.loop = loop;
    const phis = initial.map((value) => {
      const phi = builder.phi(header, [value]);
      phi.isNumber = value.isNumber;
      return phi;
    });
    const [operator, left, right] = test(phis);
    builder.branchOn(operator, left, right, inside, exit);
    builder.continueIn(inside);
    const next = body(phis);
    builder.jump(header);
    for (const [index, phi] of phis.entries()) phi.inputs.push(next[index]!);
    builder.loop = loop.parent;
    builder.continueIn(exit);
    return { phis, header };
  }

  /** `for (let i = 0; i < limit; i++)`, with accumulators. */
  for(
    limit: Node | number,
    initial: readonly Node[],
    body: (i: Node, variables: readonly Node[]) => readonly Node[],
  ) {
    return this.while(
      [this.constant(0), ...initial],
      ([i]) => ["slt", i!, limit],
      ([i, ...variables]) => {
        const next = body(i!, variables);
        return [this.add(i!, 1), ...next];
      },
    );
  }

  analyse(target = modern): void {
    if (this.builder.isReachable) this.builder.return(0);
    analyseRanges(this.fn, refuse, target);
  }
}

const rangeOf = ({ range }: Node) => [range?.min, range?.max];

describe("ranges", () => {
  test("of operations on numbers are as in JavaScript", () => {
    const code = new Code();
    const x = code.byte(4);
    const i = code.byte(1);
    const results = {
      "i * 4 + 1": [code.add(code.number("mul", i, 4), 1), 1, 1021],
      "i - 300": [code.number("sub", i, 300), -300, -45],
      "(i - 300) % 7": [code.number("smod", code.number("sub", i, 300), 7), -6, 0],
      "x % 7": [code.number("mod", x, 7), 0, 6],
      "Math.trunc(x / 1000)": [code.number("div", x, 1000), 0, 4_294_967],
      "Math.trunc((i - 100) / 10)": [code.number("sdiv", code.number("sub", i, 100), 10), -10, 15],
      "x >>> 28": [code.number("rsh", x, 28), 0, 15],
      "x | 0": [code.builder.extend(x, 32, true), -(2 ** 31), 2 ** 31 - 1],
      "x & 0xff0": [code.builder.binary("and", x, 0xff0), 0, 0xff0],
      "i | 0x100": [code.builder.binary("or", i, 0x100), 256, 511],
      "i ^ 3": [code.builder.binary("xor", i, 3), 0, 255],
      "~i": [code.builder.binary("xor", i, -1), -256, -1],
      "(i - 5) + 1 | 0, in 32 bits": [
        code.builder.extend(code.builder.binary("add", code.number("sub", i, 5), 1, 32), 32, true),
        -4,
        251,
      ],
      "(i - 5) & 7, in 32 bits": [
        code.builder.binary("and", code.number("sub", i, 5), 7, 32),
        0,
        7,
      ],
      "i === 300": [code.builder.compare("eq", i, 300), 0, 0],
    } satisfies Record<string, [Node, number, number]>;
    code.analyse();
    const found = Object.entries(results).map(([name, [node]]) => [name, ...rangeOf(node)]);
    const expected = Object.entries(results).map(([name, [, min, max]]) => [name, min, max]);
    expect(found).toEqual(expected);
  });

  test("are narrowed by conditions, of values and of what they are computed from", () => {
    const code = new Code();
    const { builder } = code;
    const x = code.byte(4);
    const y = code.byte(1);
    const signed = builder.number(builder.load(code.context, 0, 4, { signed: true }));
    const seen: [string, Node, number, number][] = [];
    const see = (name: string, value: Node, min: number, max: number) => {
      seen.push([name, code.add(value, 0), min, max]);
    };
    code.if("slt", x, 10, () => see("x < 10", x, 0, 9));
    code.if("ge", x, 10, () => see("x >= 10", x, 10, 2 ** 32 - 1));
    code.if("sgt", code.add(x, 5), 100, () => see("x + 5 > 100", x, 96, 2 ** 32 - 1));
    code.if("lt", x, y, () => see("x < y", x, 0, 254));
    code.if("lt", x, y, () => see("y > x", y, 1, 255));
    code.if("eq", x, y, () => see("x === y", x, 0, 255));
    code.if("ne", y, 0, () => see("y !== 0", y, 1, 255));
    code.if("set", y, y, () => see("y & y", y, 1, 255));
    code.if("lt", signed, 8, () => see("signed < 8, without sign", signed, 0, 7));
    code.if("slt", signed, 8, () => see("signed < 8, in 32 bits", signed, -(2 ** 31), 7), 32);
    code.if("slt", x, 8, () => see("x < 8 of its low half with sign", x, 0, 2 ** 32 - 1), 32);
    const compared = builder.compare("sle", x, 3);
    code.if("ne", compared, 0, () => see("(x <= 3) !== 0", x, 0, 3));
    code.if("slt", x, 10, () => code.if("sgt", x, 5, () => see("5 < x && x < 10", x, 6, 9)));
    see("x after conditions", x, 0, 2 ** 32 - 1);
    code.if("slt", x, 10, () => builder.return(0));
    code.analyse();
    expect(seen.map(([name, node]) => [name, ...rangeOf(node)])).toEqual(
      seen.map(([name, , min, max]) => [name, min, max]),
    );
  });

  test("of the branch that is left after a return are narrowed", () => {
    const code = new Code();
    const x = code.byte(4);
    code.if("sge", x, 16, () => code.builder.return(1));
    const y = code.add(x, 1);
    code.analyse();
    expect(rangeOf(y)).toEqual([1, 16]);
  });

  test("of Math.min and Math.max are those of the smaller and greater value", () => {
    const code = new Code();
    const x = code.byte(4);
    const least = code.choose(
      "slt",
      x,
      100,
      () => x,
      () => code.constant(100),
    );
    const both = code.choose(
      "sgt",
      least,
      20,
      () => least,
      () => code.constant(20),
    );
    code.analyse();
    expect([rangeOf(least), rangeOf(both)]).toEqual([
      [0, 100],
      [20, 100],
    ]);
  });
});

describe("loops", () => {
  test("give bounds to counters, sums, and what depends on them", () => {
    const code = new Code();
    const zero = code.constant(0);
    const values: Node[] = [];
    const { phis, header } = code.for(100, [zero, zero, zero], (i, [total, count, twice]) => {
      const added = code.choose(
        "sgt",
        code.byte(),
        3,
        () => code.add(count!, 1),
        () => count!,
      );
      values.push(code.add(i, 0), code.add(count!, 0));
      return [code.add(total!, code.byte(4)), added, code.add(twice!, count!)];
    });
    code.analyse();
    expect(header.loop).toMatchObject({ maxIterations: 100, kind: "plain" });
    expect(phis.map(rangeOf)).toEqual([
      [0, 100],
      [0, 100 * (2 ** 32 - 1)],
      [0, 100],
      [0, 9900],
    ]);
    // In the body of the 100th iteration, 99 have been made.
    expect(values.map(rangeOf)).toEqual([
      [0, 99],
      [0, 99],
    ]);
  });

  test("in loops multiply", () => {
    const code = new Code();
    let inner!: ReturnType<Code["for"]>;
    const outer = code.for(50, [code.constant(0)], (_, [total]) => {
      inner = code.for(40, [total!], (_j, [sum]) => [code.add(sum!, code.byte())]);
      return [inner.phis[1]!];
    });
    code.analyse();
    expect(rangeOf(outer.phis[1]!)).toEqual([0, 50 * 40 * 255]);
    expect([outer.header.loop!.maxIterations, inner.header.loop!.maxIterations]).toEqual([50, 40]);
  });

  type Step = (code: Code, i: Node) => Node;
  type Test = (code: Code, i: Node) => [CompareOperator, Node, Node | number];
  const shapes: [string, (code: Code) => Node, Test, Step, number][] = [
    [
      "i < n of a byte",
      (c) => c.constant(0),
      (c, i) => ["slt", i, c.byte()],
      (c, i) => c.add(i, 1),
      255,
    ],
    ["n > i", (c) => c.constant(0), (c, i) => ["sgt", c.byte(), i], (c, i) => c.add(i, 1), 255],
    ["i <= 10, by 3", (c) => c.constant(0), (_, i) => ["sle", i, 10], (c, i) => c.add(i, 3), 4],
    ["i > 0, down", (c) => c.byte(), (_, i) => ["sgt", i, 0], (c, i) => c.number("sub", i, 1), 255],
    [
      "i-- from a byte",
      (c) => c.byte(),
      (_, i) => ["ne", i, 0],
      (c, i) => c.number("sub", i, 1),
      255,
    ],
    ["i !== 8, by 2", (c) => c.constant(0), (_, i) => ["ne", i, 8], (c, i) => c.add(i, 2), 4],
    [
      "i + 2 < 10",
      (c) => c.constant(0),
      (c, i) => ["slt", c.add(i, 2), 10],
      (c, i) => c.add(i, 1),
      8,
    ],
    [
      "i < 10, by 1 to 3",
      (c) => c.constant(0),
      (_, i) => ["slt", i, 10],
      (c, i) =>
        c.add(
          i,
          c.choose(
            "eq",
            c.byte(),
            0,
            () => c.constant(1),
            () => c.constant(3),
          ),
        ),
      10,
    ],
    [
      "i = i + 1 | 0",
      (c) => c.constant(0),
      (_, i) => ["slt", i, 20],
      (c, i) => c.builder.number(c.builder.extend(c.add(i, 1), 32, true)),
      20,
    ],
    ["x >>>= 1", (c) => c.byte(4), (_, i) => ["ne", i, 0], (c, i) => c.number("rsh", i, 1), 32],
    [
      "x = Math.trunc(x / 10)",
      (c) => c.byte(4),
      (_, i) => ["sgt", i, 0],
      (c, i) => c.number("div", i, 10),
      10,
    ],
    [
      "i *= 2",
      (c) => c.constant(1),
      (_, i) => ["slt", i, 1000],
      (c, i) => c.number("mul", i, 2),
      10,
    ],
    ["never", (c) => c.constant(5), (_, i) => ["slt", i, 5], (c, i) => c.add(i, 1), 1],
  ];
  test.each(shapes)("of the form %s have a bound", (_, start, condition, step, iterations) => {
    const code = new Code();
    const { header } = code.while(
      [start(code)],
      ([i]) => condition(code, i!),
      ([i]) => [step(code, i!)],
    );
    code.analyse();
    expect(header.loop!.maxIterations).toBe(iterations);
  });

  const unbounded: [string, Test, Step][] = [
    ["without a step", (_, i) => ["slt", i, 10], (_c, i) => i],
    ["that may stand still", (_, i) => ["slt", i, 10], (c, i) => c.add(i, c.byte())],
    [
      "away from their limit",
      (_, i) => ["sgt", i, -1],
      (c, i) => c.builder.number(c.builder.extend(c.add(i, 1), 32, true)),
    ],
    [
      "that may miss their limit",
      (_, i) => ["ne", i, 7],
      (c, i) => c.builder.number(c.builder.extend(c.add(i, 2), 32, true)),
    ],
    ["without a limit", (c) => ["eq", c.byte(), 1], (c, i) => c.add(i, 1)],
  ];
  test.each(unbounded)("%s are refused", (_, condition, step) => {
    const code = new Code();
    code.while(
      [code.constant(0)],
      ([i]) => condition(code, i!),
      ([i]) => [step(code, i!)],
    );
    expect(() => code.analyse()).toThrow(
      "the loop has no bound that the compiler can find; Compare a counter",
    );
  });

  test("that are too long are refused, alone and together", () => {
    const long = new Code();
    long.for(long.byte(4), [], () => []);
    expect(() => long.analyse()).toThrow("the loop is too long: it may have 4294967295 iterations");
    const nested = new Code();
    nested.for(2000, [], () => {
      nested.for(2000, [], () => []);
      return [];
    });
    expect(() => nested.analyse()).toThrow("4000000 iterations, with those of the loops around it");
    const unverified = new Code();
    unverified.for(900_000, [], () => []);
    expect(() => unverified.analyse(old)).toThrow("Linux 6.9 and newer verify long loops");
  });

  test("that are long, or whose end the verifier would not see, use may_goto where the kernel has it", () => {
    for (const [limit, kind] of [
      [900, "plain"],
      [5000, "mayGoto"],
      [undefined, "mayGoto"],
    ] as const) {
      const code = new Code();
      const { header } = code.for(limit ?? code.byte(), [], () => []);
      code.analyse();
      expect(header.loop!.kind).toBe(kind);
      prepareLoops(code.fn);
      expect(printFunction(code.fn).includes("mayGoto")).toBe(kind === "mayGoto");
    }
  });
});

describe("proofs", () => {
  test("refuse arithmetic that may leave the safe integers, and say how to write it", () => {
    const code = new Code();
    code.builder.position = position;
    code.number("mul", code.number("mul", code.byte(4), code.byte(4)), 2);
    expect(() => code.analyse()).toThrow(
      "the product may leave the safe integers: it is 0 to 2^53 or more, of 0 to 4294967295 and 0 to 4294967295; Wrap it to 32 bits by `Math.imul(a, b)`",
    );
    const sums = new Code();
    const any = sums.builder.number(sums.builder.load(sums.context, 0, 8));
    sums.add(any, 1);
    expect(() => sums.analyse()).toThrow(
      "the sum may leave the safe integers: it is -2^53 - 1 to 2^53 or more".slice(0, 41),
    );
    const big = new Code();
    big.builder.binary("mul", big.builder.load(big.context, 0, 8), 3);
    big.analyse();
  });

  test("find indices out of bounds", () => {
    const make = (max: number) => {
      const code = new Code();
      const { builder } = code;
      const index = code.number("mod", code.byte(4), 7);
      builder.add({ kind: "bound", min: 0, max }, [index]);
      return code;
    };
    make(6).analyse();
    expect(() => make(5).analyse()).toThrow(
      "the index may be out of 0 to 5: it is 0 to 6; Check it before, by a condition such as `index <= 5`",
    );
  });

  test("keep the bounds that the verifier needs, and remove the others", () => {
    const kept = (make: (code: Code) => Node, max: number, target = modern) => {
      const code = new Code();
      const node = make(code);
      const bound = code.builder.add({ kind: "bound", min: 0, max }, [node]);
      code.builder.return(bound);
      code.analyse(target);
      return printFunction(code.fn).includes("bound");
    };
    expect({
      mask: kept((c) => c.builder.binary("and", c.byte(4), 15), 15),
      byte: kept((c) => c.byte(), 255),
      scaled: kept((c) => c.add(c.number("mul", c.byte(), 4), 1), 1021),
      shifted: kept((c) => c.number("rsh", c.byte(4), 28), 15),
      remainder: kept((c) => c.number("mod", c.byte(4), 16), 15),
      quotient: kept((c) => c.number("div", c.byte(), 16), 15),
      chosen: kept(
        (c) =>
          c.choose(
            "slt",
            c.byte(4),
            5,
            () => c.constant(1),
            () => c.constant(2),
          ),
        2,
      ),
      spilled: kept(
        (c) => {
          const byte = c.byte();
          c.if("eq", c.byte(), 1, () => c.builder.callHelper("ktime_get_ns"));
          return byte;
        },
        255,
        old,
      ),
    }).toEqual({
      ...{ mask: false, byte: false, scaled: false, shifted: false },
      ...{ remainder: true, quotient: true, chosen: true, spilled: true },
    });
    const inLoop = (limit: number, target: typeof modern) => {
      const code = new Code();
      code.for(limit, [], (i) => {
        code.builder.add({ kind: "bound", min: 0, max: limit - 1 }, [i]);
        return [];
      });
      code.analyse(target);
      return printFunction(code.fn).includes("bound");
    };
    expect([inLoop(10, old), inLoop(10, modern), inLoop(5000, modern)]).toEqual([
      false,
      false,
      true,
    ]);
  });
});

describe("preparation for the verifier", () => {
  test("makes accumulators opaque where paths would multiply, and leaves the counter", () => {
    const code = new Code();
    const { phis } = code.for(256, [code.constant(0)], (_, [count]) => {
      const next = code.choose(
        "sgt",
        code.byte(),
        3,
        () => code.add(count!, 1),
        () => count!,
      );
      return [
        code.choose(
          "sgt",
          next,
          100,
          () => code.add(next, 2),
          () => next,
        ),
      ];
    });
    code.analyse(old);
    prepareLoops(code.fn);
    const opaque = code.fn.blocks.flatMap(({ nodes }) =>
      nodes.filter(({ operation }) => operation.kind === "opaque"),
    );
    expect(opaque.map(({ inputs }) => inputs[0]!.id)).toEqual([phis[1]!.id]);
  });

  test("leaves loops without unknown branches as they are", () => {
    const code = new Code();
    code.for(256, [code.constant(0)], (i, [total]) => [code.add(total!, i)]);
    code.analyse(old);
    const before = printFunction(code.fn);
    prepareLoops(code.fn);
    expect(printFunction(code.fn)).toBe(before);
  });

  test("makes flags opaque that many conditions set and another reads", () => {
    const code = new Code();
    let flags = code.constant(0);
    for (let bit = 0; bit < 24; bit++) {
      const before = flags;
      flags = code.choose(
        "eq",
        code.byte(),
        1,
        () => code.builder.number(code.builder.binary("or", before, 1 << bit)),
        () => before,
      );
    }
    code.if("eq", flags, 5, () => code.builder.callHelper("ktime_get_ns"));
    code.analyse(old);
    prepareLoops(code.fn);
    expect(printFunction(code.fn).split("opaque").length - 1).toBeGreaterThan(5);
  });

  test("adds a counter to loops whose end the verifier would not see", () => {
    const code = new Code();
    const { header } = code.while(
      [code.byte(4)],
      ([x]) => ["ne", x!, 0],
      ([x]) => [code.number("div", x!, 10)],
    );
    code.analyse(old);
    prepareLoops(code.fn);
    expect(header.phis.length).toBe(2);
    expect(printFunction(code.fn)).toMatch(/branch lt %\d+, %\d+ then/);
  });
});
