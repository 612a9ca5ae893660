/** Tests of C declarations of types. */
import { describe, expect, test } from "bun:test";
import { declaration } from "../../src/btf/declaration.ts";
import { encodeBtf } from "../../src/btf/encode.ts";
import { loadBtf } from "../../src/ffi/bpf_btf.ts";
import { Btf } from "../../src/index.ts";
import * as t from "../../src/types/t.ts";
import { bpftoolObstacle } from "../support/bpftool.ts";
import { bpfObstacle } from "../support/privilege.ts";
import { run } from "../support/run.ts";
import { testUnless } from "../support/skipping.ts";
import { kernelTypesObstacle, vmlinux } from "./kernel_types.ts";
import { RawTypes } from "./raw_types.ts";

const types = new RawTypes();
const int = types.int("int", 4, 1);
const char = types.int("char", 1, 1);
const point = types.struct("point", 8, [
  { name: "x", type: int, bit: 0 },
  { name: "y", type: int, bit: 32 },
]);
const anonymous = types.union("", 8, [
  { name: "number", type: types.int("long long", 8, 1), bit: 0 },
  { name: "text", type: types.array(char, 8), bit: 0 },
]);
const proto = types.functionProto(int);
const pointer = types.ptr(point);
const constInt = types.qualified("const", int);
const callback = types.functionProto(types.ptr(0), [
  ["count", int],
  ["text", types.ptr(types.qualified("const", char))],
  ["", types.ptr(proto)],
  ["", 0],
]);
const cases: readonly (readonly [number, string])[] = [
  [int, "int"],
  [0, "void"],
  [types.ptr(0), "void *"],
  [types.ptr(types.qualified("const", char)), "const char *"],
  [types.qualified("const", types.ptr(char)), "char *const"],
  [types.qualified("volatile", int), "volatile int"],
  [types.qualified("const", types.qualified("volatile", types.ptr(int))), "int *const volatile"],
  [
    types.qualified(
      "const",
      types.qualified("restrict", types.ptr(types.qualified("const", char))),
    ),
    "const char *const restrict",
  ],
  [
    types.qualified(
      "restrict",
      types.qualified("const", types.ptr(types.qualified("const", char))),
    ),
    "const char *restrict const",
  ],
  [types.qualified("const", types.qualified("volatile", int)), "const volatile int"],
  [types.qualified("const", types.typeTag("user", types.ptr(int))), "int *const"],
  [types.qualified("const", types.array(constInt, 4)), "const int[4]"],
  [
    types.qualified("const", types.array(types.array(types.ptr(constInt), 2), 4)),
    "const int *const[4][2]",
  ],
  [types.ptr(types.qualified("const", types.array(int, 4))), "const int (*)[4]"],
  [types.array(int, 4), "int[4]"],
  [types.array(types.array(int, 2), 3), "int[3][2]"],
  [types.array(char, 0), "char[]"],
  [types.ptr(types.array(int, 4)), "int (*)[4]"],
  [types.ptr(proto), "int (*)(void)"],
  [types.array(types.ptr(proto), 2), "int (*[2])(void)"],
  [pointer, "struct point *"],
  [types.typeTag("user", int), "int"],
  [types.ptr(types.forward("later")), "struct later *"],
  [types.ptr(types.forward("later", "union")), "union later *"],
  [types.forward("later", "union"), "union later"],
  [
    types.qualified(
      "const",
      types.ptr(types.ptr(types.qualified("const", types.forward("later", "union")))),
    ),
    "const union later **const",
  ],
  [types.ptr(types.array(types.forward("later", "union"), 2)), "union later (*)[2]"],
  [types.ptr(callback), "void *(*)(int count, const char *text, int (*)(void), ...)"],
  [types.func("call", callback), "void *call(int count, const char *text, int (*)(void), ...)"],
  [
    types.qualified("const", types.ptr(callback)),
    "void *(*const)(int count, const char *text, int (*)(void), ...)",
  ],
  [types.enum("mode", 4, { A: 1 }), "enum mode"],
  [types.enum("", 4, { B: 1, C: 2 }), "enum { B = 1, C = 2 }"],
  [types.ptr(types.enum("", 4, { D: 3 })), "enum { D = 3 } *"],
  [types.enum("", 4, {}), "enum {}"],
  [types.enum64("", { LARGE: 2n ** 63n }), "enum { LARGE = 9223372036854775808 }"],
  [types.float("double", 8), "double"],
  [types.typedef("number_t", int), "number_t"],
  [types.typedef("point_t", point), "point_t { int x; int y; }"],
  [point, "struct point { int x; int y; }"],
  [types.array(point, 2), "struct point { int x; int y; }[2]"],
  [types.struct("empty", 0, []), "struct empty {}"],
  [
    types.struct("all", 40, [
      { name: "at", type: point, bit: 0 },
      { name: "", type: anonymous, bit: 64 },
      { name: "next", type: pointer, bit: 128 },
      { name: "call", type: types.ptr(proto), bit: 192 },
      { name: "list", type: types.array(point, 1), bit: 256 },
    ]),
    "struct all { struct point at; union { long long number; char text[8]; }; struct point *next; int (*call)(void); struct point list[1]; }",
  ],
  [
    types.struct("choice", 8, [
      { name: "mode", type: types.enum("", 4, { OFF: 0, ON: -1 }, true), bit: 0 },
      {
        name: "p",
        type: types.qualified("const", types.qualified("volatile", types.ptr(int))),
        bit: 32,
      },
    ]),
    "struct choice { enum { OFF = 0, ON = -1 } mode; int *const volatile p; }",
  ],
  [
    types.struct("qualified", 40, [
      {
        name: "text",
        type: types.qualified(
          "restrict",
          types.qualified("const", types.ptr(types.qualified("const", char))),
        ),
        bit: 0,
      },
      { name: "list", type: types.qualified("const", types.array(constInt, 4)), bit: 64 },
      {
        name: "later",
        type: types.qualified("const", types.ptr(types.forward("later", "union"))),
        bit: 192,
      },
      { name: "call", type: types.qualified("volatile", types.ptr(proto)), bit: 256 },
    ]),
    "struct qualified { const char *restrict const text; const int list[4]; union later *const later; int (*volatile call)(void); }",
  ],
  [
    types.struct("bits", 4, [
      { name: "low", type: int, bit: 0, bits: 3 },
      { name: "whole", type: int, bit: 32 },
    ]),
    "struct bits { int low : 3; int whole; }",
  ],
  [
    types.struct("old", 8, [
      { name: "low", type: types.int("unsigned int", 4, 0, 3), bit: 0 },
      { name: "high", type: types.typedef("high_t", types.int("int", 4, 1, 5, 3)), bit: 0 },
      { name: "whole", type: int, bit: 32 },
    ]),
    "struct old { unsigned int low : 3; high_t high : 5; int whole; }",
  ],
  [
    types.section(".bss", 8, [
      [types.variable("count", int), 0, 4],
      [types.variable("last", point), 4, 4],
    ]),
    ".bss { int count; struct point last; }",
  ],
];
const btf = Btf.parse(types.encode());

describe("declarations", () => {
  test.each(cases)("of type %d: %s", (id, expected) => {
    expect(declaration(btf, id)).toBe(expected);
  });
});

test("values of enums without a recorded sign are negative if they look negative", () => {
  const old = new RawTypes();
  const failed = old.enum("", 4, { DONE: 0, FAILED: -1 });
  const flags = old.enum("", 4, { LOW: 1, MASK: 0xffff_0000, HIGH: 0x8000_0000 });
  const read = Btf.parse(old.encode());
  expect(read.declaration(failed)).toBe("enum { DONE = 0, FAILED = -1 }");
  expect(read.declaration(flags)).toBe("enum { LOW = 1, MASK = 4294901760, HIGH = 2147483648 }");
  // One enum is marked as signed, so the others are unsigned.
  const recent = new RawTypes();
  recent.enum("signed", 4, { NONE: -1 }, true);
  const all = recent.enum("", 4, { ALL: 0xffff_ffff });
  expect(Btf.parse(recent.encode()).declaration(all)).toBe("enum { ALL = 4294967295 }");
});

describe("types that refer to themselves", () => {
  /** Declares the type that `make` adds after `int` (id 1), and checks that the kernel loads it: such types can be found in a kernel. */
  const declared = (make: (types: RawTypes) => number): string => {
    const own = new RawTypes();
    own.int("int", 4, 1);
    const id = make(own);
    if (bpfObstacle === undefined) loadBtf(own.encode(), "types of a test")[Symbol.dispose]();
    return Btf.parse(own.encode()).declaration(id);
  };

  test("end with ... where they repeat", () => {
    expect(declared((own) => (own.ptr(3), own.array(2, 4)))).toBe("... (*[4])");
    expect(declared((own) => (own.ptr(3), own.array(2, 4), 2))).toBe("... (*)[4]");
    expect(declared((own) => (own.functionProto(3), own.ptr(2)))).toBe("... (*)(void)");
    expect(
      declared((own) => {
        const parameters = ["a", "b", "c", "d"].map((name) => [name, 3] as const);
        own.functionProto(3, parameters);
        return own.ptr(2);
      }),
    ).toBe("... (*)(... a, ... b, ... c, ... d)");
    const damaged = new RawTypes();
    damaged.ptr(2);
    damaged.qualified("const", 1);
    expect(Btf.parse(damaged.encode()).declaration(2)).toBe("... *const");
  });

  test("appear by name if they have one", () => {
    const next = [{ name: "next", type: 3, bit: 0 }];
    expect(declared((own) => (own.struct("s", 8, next), own.ptr(2), 2))).toBe(
      "struct s { struct s *next; }",
    );
    expect(declared((own) => (own.struct("", 8, next), own.ptr(2), 2))).toBe(
      "struct { struct { ... } *next; }",
    );
  });

  test("end at the greatest length of a chain", () => {
    const chain = (own: RawTypes, length: number) => {
      let id = 1;
      for (let count = 0; count < length; count++) id = own.ptr(id);
      return id;
    };
    expect(declared((own) => chain(own, 100))).toBe(`int ${"*".repeat(100)}`);
    expect(declared((own) => chain(own, 1000))).toBe(`... ${"*".repeat(128)}`);
    const typedefs = declared((own) => {
      let id = 1;
      for (let count = 0; count < 1000; count++) id = own.typedef(`t${count}`, id);
      return id;
    });
    expect(typedefs).toBe("t999");
  });

  test("end at the greatest number of characters if they contain a type many times", () => {
    // There are 8^8 paths to the innermost type.
    const text = declared((own) => {
      let inner = own.struct("", 64, [{ name: "x", type: 1, bit: 0 }]);
      for (let level = 0; level < 7; level++) {
        const members = Array.from({ length: 8 }, () => ({ name: "", type: inner, bit: 0 }));
        inner = own.union("", 64, members);
      }
      return inner;
    });
    expect(text).toStartWith(`${"union { ".repeat(7)}struct { int x; };`);
    expect(text).toEndWith("... }");
    expect(text.length).toBeLessThan(2 ** 18);
    const wide = declared((own) =>
      own.union(
        "wide",
        4,
        Array.from({ length: 60_000 }, (_, index) => ({ name: `m${index}`, type: 1, bit: 0 })),
      ),
    );
    expect(wide).toStartWith("union wide { int m0; int m1; ");
    expect(wide).toEndWith("; ... }");
    expect(wide.length).toBeLessThan(2 ** 18);
  });
});

/** Normalizes the white space of C declarations, and removes attributes and padding. */
function normalized(text: string): string {
  return text
    .replace(/\s+/g, " ")
    .replace(/\* (?=[*\w(])/g, "*")
    .replaceAll("[0]", "[]")
    .replaceAll("{ }", "{}")
    .replaceAll(" : ", ": ")
    .replace(/ __attribute__\(\(\w+(\(\d+\))?\)\)/g, "")
    .replace(/(?<=[{;]) [a-z ]+: \d+;/g, "")
    .replace(/(?<=\w)___\d+\b/g, "")
    .replace(/(enum \{[^}]*?),? \}/g, "$1 }")
    .trim();
}

testUnless(kernelTypesObstacle ?? bpftoolObstacle)(
  "declarations of the kernel's structs and unions match bpftool",
  async () => {
    const { stdout } = await run(["bpftool", "btf", "dump", "file", vmlinux, "format", "c"]);
    const kernel = Btf.kernel();
    let compared = 0;
    for (const [, kind, name, body] of stdout.matchAll(
      /^(struct|union) (\w+) \{\n([^]*?)^\}.*;$/gm,
    )) {
      const ids = kernel.findAll(kind as "struct" | "union", name as string);
      // bpftool renames some of several types with the same name.
      if (ids.length === 0) continue;
      const expected = normalized(`${kind} ${name} { ${body} }`);
      const declarations = ids.map((id) => normalized(kernel.declaration(id)));
      if (!declarations.includes(expected)) expect(declarations[0]).toBe(expected);
      compared++;
    }
    expect(compared).toBeGreaterThan(5000);
  },
);

test("types nested too deep end with ...", () => {
  let deep: t.Type<unknown> = t.u8;
  for (let depth = 0; depth < 12; depth++) deep = t.struct({ inner: deep });
  const { bytes, valueTypeId } = encodeBtf({ value: deep });
  expect(declaration(Btf.parse(bytes), valueTypeId)).toContain("struct { ... } inner;");
});
