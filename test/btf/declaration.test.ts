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
const cases: readonly (readonly [number, string])[] = [
  [int, "int"],
  [0, "void"],
  [types.ptr(0), "void *"],
  [types.ptr(types.qualified("const", char)), "const char *"],
  [types.qualified("const", types.ptr(char)), "char *const"],
  [types.qualified("volatile", int), "volatile int"],
  [types.array(int, 4), "int[4]"],
  [types.array(types.array(int, 2), 3), "int[3][2]"],
  [types.array(char, 0), "char[]"],
  [types.ptr(types.array(int, 4)), "int (*)[4]"],
  [types.ptr(proto), "int (*)()"],
  [types.array(types.ptr(proto), 2), "int (*[2])()"],
  [pointer, "struct point *"],
  [types.typeTag("user", int), "int"],
  [types.ptr(types.forward("later")), "struct later *"],
  [types.enum("mode", 4, { A: 1 }), "enum mode"],
  [types.enum("", 4, { B: 1 }), "enum"],
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
