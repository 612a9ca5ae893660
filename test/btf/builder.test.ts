/** Tests of the builder: types of all kinds are read back, loaded by the kernel, and read by bpftool. */
import { expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { BtfBuilder } from "../../src/btf/builder.ts";
import { loadBtf } from "../../src/ffi/bpf_btf.ts";
import { Btf } from "../../src/index.ts";
import { bpftoolJson, bpftoolTest } from "../support/bpftool.ts";
import { bpfTest } from "../support/privilege.ts";

/** Adds types of the kinds that kernels accept since 5.2, with BTF for functions and variables. */
function build() {
  const types = new BtfBuilder();
  const int = types.int("int", 4, { isSigned: true });
  const char = types.int("char", 1, { isSigned: true });
  const bool = types.int("_Bool", 1, { isBool: true });
  const text = types.reference("ptr", types.reference("const", char));
  const pair = types.struct("pair", 8, [
    { name: "low", typeId: int, bitOffset: 0, bitSize: 3 },
    { name: "high", typeId: int, bitOffset: 3, bitSize: 29 },
    { name: "flag", typeId: bool, bitOffset: 32 },
  ]);
  const either = types.union("either", 8, [
    { name: "pair", typeId: pair, bitOffset: 0 },
    { name: "text", typeId: text, bitOffset: 0 },
  ]);
  const mode = types.enum(
    "mode",
    4,
    [
      { name: "OFF", value: 0 },
      { name: "ON", value: 7 },
    ],
    false,
  );
  const later = types.forward("later", "struct");
  const other = types.forward("other", "union");
  const pairName = types.reference("typedef", pair, "pair_t");
  const prototype = types.functionPrototype(int, [
    { name: "first", typeId: text },
    { name: "second", typeId: types.reference("ptr", pairName) },
  ]);
  const local = types.func("local", prototype, "static");
  const shared = types.func("shared", prototype, "global");
  const count = types.variable("count", int, "global");
  const hidden = types.variable("hidden", types.reference("volatile", mode), "static");
  const section = types.section(".data", 8, [
    { id: count, offset: 0, size: 4 },
    { id: hidden, offset: 4, size: 4 },
  ]);
  const ids = { int, char, bool, text, pair, either, mode, later, other, pairName };
  return { types, ids: { ...ids, prototype, local, shared, count, hidden, section } };
}

test("built types are read back unchanged", () => {
  const { types, ids } = build();
  const btf = Btf.parse(types.encode());
  expect(btf.members(ids.pair)).toEqual([
    { name: "low", typeId: ids.int, bitOffset: 0, bitSize: 3 },
    { name: "high", typeId: ids.int, bitOffset: 3, bitSize: 29 },
    { name: "flag", typeId: ids.bool, bitOffset: 32, bitSize: 0 },
  ]);
  expect(btf.integer(ids.bool)).toMatchObject({ isBool: true, isSigned: false, bitSize: 8 });
  expect(btf.enumerators(ids.mode)).toEqual([
    { name: "OFF", value: 0 },
    { name: "ON", value: 7 },
  ]);
  const declared = Object.values(ids).map((id) => btf.declaration(id));
  expect(declared).toEqual([
    "int",
    "char",
    "_Bool",
    "const char *",
    "struct pair { int low : 3; int high : 29; _Bool flag; }",
    "union either { struct pair pair; const char *text; }",
    "enum mode",
    "struct later",
    "union other",
    "pair_t { int low : 3; int high : 29; _Bool flag; }",
    "int (const char *first, pair_t *second)",
    "int local(const char *first, pair_t *second)",
    "int shared(const char *first, pair_t *second)",
    "int",
    "volatile enum mode",
    ".data { int count; volatile enum mode hidden; }",
  ]);
  expect([ids.local, ids.shared].map((id) => btf.type(id).linkage)).toEqual(["static", "global"]);
  expect([ids.count, ids.hidden].map((id) => btf.type(id).linkage)).toEqual(["global", "static"]);
});

test("types that require newer kernels are read back unchanged", () => {
  const types = new BtfBuilder();
  const double = types.float("double", 8);
  const values = [
    { name: "LARGE", value: 2n ** 63n },
    { name: "SMALL", value: 1 },
  ];
  const wide = types.enum("wide", 8, values, false);
  const negative = types.enum("negative", 4, [{ name: "MINUS", value: -1 }], true);
  const user = types.reference("ptr", types.reference("type_tag", double, "user"));
  const once = types.reference("restrict", user);
  const struct = types.struct("s", 8, [{ name: "p", typeId: once, bitOffset: 0 }]);
  types.declarationTag("whole", struct);
  types.declarationTag("member", struct, 0);
  const btf = Btf.parse(types.encode());
  expect(btf.enumerators(wide)).toEqual(values);
  expect(btf.enumerators(negative)).toEqual([{ name: "MINUS", value: -1 }]);
  expect(btf.declaration(struct)).toBe("struct s { double *restrict p; }");
  expect(btf.tags(struct)).toEqual([
    { name: "whole", componentIndex: -1 },
    { name: "member", componentIndex: 0 },
  ]);
  const umlaut = types.float("zähler", 4);
  expect(types.float("after", 4)).toBe(umlaut + 1);
  const more = Btf.parse(types.encode());
  expect([umlaut, umlaut + 1].map((id) => more.type(id).name)).toEqual(["zähler", "after"]);
  // Identical types are added once.
  const { length } = more;
  expect(types.float("double", 8)).toBe(double);
  expect(types.enum("wide", 8, values, false)).toBe(wide);
  expect(Btf.parse(types.encode())).toHaveLength(length);
});

bpfTest("the kernel loads types of all kinds", () => {
  const { types } = build();
  loadBtf(types.encode(), "types of a test")[Symbol.dispose]();
});

bpftoolTest("bpftool reads types of all kinds", async () => {
  const { types, ids } = build();
  const folder = mkdtempSync(join(tmpdir(), "builder-"));
  try {
    const file = join(folder, "types.btf");
    writeFileSync(file, types.encode());
    const { types: printed } = await bpftoolJson<{ types: readonly { id: number }[] }>(
      ...["btf", "dump", "file", file],
    );
    const byId = new Map(printed.map((type) => [type.id, type]));
    expect(byId.get(ids.prototype)).toMatchObject({
      kind: "FUNC_PROTO",
      ret_type_id: ids.int,
      params: [{ name: "first", type_id: ids.text }, { name: "second" }],
    });
    expect(byId.get(ids.shared)).toMatchObject({ kind: "FUNC", linkage: "global" });
    expect(byId.get(ids.hidden)).toMatchObject({ kind: "VAR", linkage: "static" });
    expect(byId.get(ids.other)).toMatchObject({ kind: "FWD", fwd_kind: "union" });
    expect(byId.get(ids.pair)).toMatchObject({
      members: [{ bitfield_size: 3 }, { bits_offset: 3 }, {}],
    });
    expect(byId.get(ids.section)).toMatchObject({
      vars: [
        { type_id: ids.count, offset: 0 },
        { type_id: ids.hidden, offset: 4 },
      ],
    });
  } finally {
    rmSync(folder, { recursive: true });
  }
});
