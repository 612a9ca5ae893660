/** Types in the words of C. */
import { describe, expect, test } from "bun:test";
import { declaration } from "../../src/btf/declaration.ts";
import { encodeBtf } from "../../src/btf/encode.ts";
import { Btf } from "../../src/index.ts";
import * as t from "../../src/types/t.ts";
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
  [types.ptr(proto), "int (*)()"],
  [types.array(types.ptr(proto), 2), "int (*[2])()"],
  [pointer, "struct point *"],
  [types.typeTag("user", int), "int"],
  [types.ptr(types.forward("later")), "struct later *"],
  [types.ptr(types.forward("later", "union")), "union later *"],
  [types.ptr(callback), "void *(*)(int count, const char *text, int (*)(), ...)"],
  [types.func("call", callback), "void *call(int count, const char *text, int (*)(), ...)"],
  [
    types.qualified("const", types.ptr(callback)),
    "void *(*const)(int count, const char *text, int (*)(), ...)",
  ],
  [types.enum("mode", 4, { A: 1 }), "enum mode"],
  [types.enum("", 4, { B: 1, C: 2 }), "enum { B = 1, C = 2 }"],
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
    "struct all { struct point at; union { long long number; char text[8]; }; struct point *next; int (*call)(); struct point list[1]; }",
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
    types.struct("bits", 4, [
      { name: "low", type: int, bit: 0, bits: 3 },
      { name: "whole", type: int, bit: 32 },
    ]),
    "struct bits { int low : 3; int whole; }",
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

describe("types as C declares them", () => {
  test.each(cases)("type %d is %s", (id, expected) => {
    expect(declaration(btf, id)).toBe(expected);
  });
});

test("what is deep is not written out to its end", () => {
  let deep: t.Type<unknown> = t.u8;
  for (let depth = 0; depth < 12; depth++) deep = t.struct({ inner: deep });
  const { bytes, valueTypeId } = encodeBtf({ value: deep });
  expect(declaration(Btf.parse(bytes), valueTypeId)).toContain("struct { ... } inner;");
});
