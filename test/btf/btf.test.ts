import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { release } from "node:os";
import { readKernelBtf } from "../../src/btf/btf.ts";
import { loadBtf } from "../../src/ffi/bpf_btf.ts";
import { BpfError, Btf } from "../../src/index.ts";
import { bpftoolJson, bpftoolObstacle } from "../support/bpftool.ts";
import { repetitions } from "../support/effort.ts";
import { bpfTest } from "../support/privilege.ts";
import { testUnless } from "../support/skipping.ts";
import { kernelTypesObstacle, kernelTypesTest, vmlinux } from "./kernel_types.ts";
import { RawTypes } from "./raw_types.ts";

describe("the running kernel's types", () => {
  kernelTypesTest("are read once", () => {
    expect(Btf.kernel()).toBe(Btf.kernel());
    expect(Btf.kernel().length).toBeGreaterThan(10_000);
  });

  kernelTypesTest("find a field of a struct, also in nested structs", () => {
    const btf = Btf.kernel();
    expect(btf.field("task_struct", "tgid").size).toBe(4);
    expect(btf.field("task_struct", "real_parent").size).toBe(8);
    expect(btf.field("task_struct", "comm").size).toBe(16);
    expect(btf.field("list_head", "prev")).toMatchObject({ offset: 8, size: 8 });
    const inner = btf.field("task_struct", "se.load.weight");
    expect(inner.offset).toBe(
      btf.field("task_struct", "se").offset +
        btf.field("sched_entity", "load").offset +
        btf.field("load_weight", "weight").offset,
    );
  });

  kernelTypesTest("suggest a similar name", () => {
    const btf = Btf.kernel();
    const find = (struct: string, path: string) => () => btf.field(struct, path);
    expect(find("task_struct", "tgidd")).toThrow(/no field tgidd .*: did you mean "tgid"\?$/);
    expect(find("mm_struct", "arg_strat")).toThrow(/did you mean "arg_start"\?$/);
    // Anonymous members and types have an empty name, which is as similar as another letter.
    expect(find("task_struct", "?")).toThrow(/no field \? in this BTF$/);
    expect(() => btf.field("?", "tgid")).toThrow(/no struct or union \?$/);
    expect(find("task_structt", "tgid")).toThrow(/task_structt: did you mean "task_struct"\?$/);
    expect(find("task_struct", "mm.pgd")).toThrow(
      /the parent of "pgd" is a pointer to the struct mm_struct, whose fields are elsewhere/,
    );
  });

  kernelTypesTest("find a field in anonymous structs and unions", () => {
    const btf = Btf.kernel();
    // Since 4.20 mm_struct has most of its fields in an anonymous struct.
    const structId = btf.find("struct", "mm_struct") ?? expect.unreachable();
    const declared = btf.members(structId).map(({ name }) => name);
    expect(declared).toContain("");
    expect(declared).not.toContain("arg_start");
    const start = btf.field("mm_struct", "arg_start");
    expect(start.size).toBe(8);
    expect(btf.field("mm_struct", "arg_end").offset).toBe(start.offset + 8);
  });

  kernelTypesTest("resolve typedefs and qualifiers, and have sizes", () => {
    const btf = Btf.kernel();
    const u64 = btf.find("typedef", "u64") ?? expect.unreachable();
    expect(btf.resolve(u64)).toMatchObject({ kind: "int", size: 8 });
    expect(btf.sizeOf(u64)).toBe(8);
    const comm = btf.field("task_struct", "comm");
    expect(btf.type(comm.typeId)).toMatchObject({ kind: "array", length: 16 });
    expect(btf.type(0)).toMatchObject({ kind: "void", name: "" });
    const void_ = btf.find("func", "schedule") ?? expect.unreachable();
    expect(btf.type(void_)).toMatchObject({ kind: "func", name: "schedule" });
  });

  kernelTypesTest("have enumerators, signed and unsigned", () => {
    const btf = Btf.kernel();
    const id = btf.find("enum", "bpf_map_type") ?? expect.unreachable();
    expect(btf.enumerators(id)).toContainEqual({ name: "BPF_MAP_TYPE_RINGBUF", value: 27 });
    expect(() => btf.enumerators(1)).toThrow("not an enum");
  });

  kernelTypesTest("return undefined or throw a RangeError for an unknown name", () => {
    const btf = Btf.kernel();
    expect(btf.find("struct", "no_such_struct")).toBeUndefined();
    // The name exists with another kind.
    expect(btf.find("func", "task_struct")).toBeUndefined();
    expect(() => btf.field("no_such_struct", "x")).toThrow(
      new RangeError("this BTF has no struct or union no_such_struct"),
    );
    expect(() => btf.field("task_struct", "no_such_field")).toThrow(
      new RangeError("task_struct has no field no_such_field in this BTF"),
    );
    expect(() => btf.field("task_struct", "tgid.x")).toThrow("has no field tgid.x");
    expect(() => btf.field("task_struct", "in_execve")).toThrow("is a bit-field");
    for (const id of [-1, btf.length, 0.5]) expect(() => btf.type(id)).toThrow(RangeError);
    expect(() => btf.members(1)).toThrow("only structs and unions have members");
  });
});

/** A struct in the JSON output of bpftool. */
interface PrintedType {
  readonly id: number;
  readonly kind: string;
  readonly name: string;
  readonly size: number;
  readonly members?: readonly {
    readonly name: string;
    readonly type_id: number;
    readonly bits_offset: number;
    readonly bitfield_size?: number;
  }[];
}

testUnless(kernelTypesObstacle ?? bpftoolObstacle)(
  "every struct and union matches bpftool",
  async () => {
    const { types } = await bpftoolJson<{ types: readonly PrintedType[] }>(
      "btf",
      "dump",
      "file",
      vmlinux,
    );
    const btf = Btf.kernel();
    expect(btf.length).toBe(types.length + 1);
    let compared = 0;
    for (const { id, kind, name, size, members = [] } of types) {
      if (kind !== "STRUCT" && kind !== "UNION") continue;
      const expected = {
        type: { id, kind: kind.toLowerCase(), name: name === "(anon)" ? "" : name, size },
        members: members.map((member) => ({
          name: member.name === "(anon)" ? "" : member.name,
          typeId: member.type_id,
          bitOffset: member.bits_offset,
          bitSize: member.bitfield_size ?? 0,
        })),
      };
      const { typeId: _typeId, length: _length, ...type } = btf.type(id);
      if (!Bun.deepEquals({ type, members: btf.members(id) }, expected, true)) {
        expect({ type, members: btf.members(id) }).toEqual(expected as never);
      }
      compared++;
    }
    expect(compared).toBeGreaterThan(5000);
  },
);

/** A type of any kind in the JSON output of bpftool. */
interface PrintedDetails extends PrintedType {
  readonly encoding?: string | undefined;
  readonly bits_offset?: number;
  readonly nr_bits?: number;
  readonly nr_elems?: number;
  readonly type_id?: number;
  readonly ret_type_id?: number;
  readonly linkage?: string;
  readonly fwd_kind?: string;
  readonly component_idx?: number;
  readonly values?: readonly { readonly name: string; readonly val: number }[];
  readonly params?: readonly { readonly name: string; readonly type_id: number }[];
  readonly vars?: readonly {
    readonly type_id: number;
    readonly offset: number;
    readonly size: number;
  }[];
}

/** Returns a type as this library reads it, with the property names of bpftool and only the properties of its kind. */
function details(btf: Btf, id: number): object {
  const type = btf.type(id);
  const { kind, name, size, typeId } = type;
  const common = { id, kind: kind.toUpperCase(), name: name === "" ? "(anon)" : name };
  const named = (text: string) => (text === "" ? "(anon)" : text);
  switch (kind) {
    case "int": {
      const { isSigned, isBool, isChar, bitOffset, bitSize } = btf.integer(id);
      const encoding = isSigned ? "SIGNED" : isBool ? "BOOL" : isChar ? "CHAR" : "(none)";
      return { ...common, size, bits_offset: bitOffset, nr_bits: bitSize, encoding };
    }
    case "array":
      return { ...common, type_id: typeId, nr_elems: type.length };
    case "enum":
    case "enum64": {
      const values = btf
        .enumerators(id)
        .map(({ name: key, value }) => ({ name: key, val: Number(value) }));
      return { ...common, encoding: type.isSigned ? "SIGNED" : "UNSIGNED", size, values };
    }
    case "fwd":
      return { ...common, fwd_kind: type.declares };
    case "func":
    case "var":
      return { ...common, type_id: typeId, linkage: type.linkage };
    case "func_proto": {
      const params = btf.parameters(id).map((parameter) => ({
        name: named(parameter.name),
        type_id: parameter.typeId,
      }));
      return { ...common, ret_type_id: typeId, params };
    }
    case "datasec": {
      const vars = btf.variables(id).map(({ offset, size: length }) => ({ offset, size: length }));
      return { ...common, size, vars };
    }
    case "decl_tag":
      return { ...common, type_id: typeId, component_idx: type.componentIndex };
    case "float":
      return { ...common, size };
    case "struct":
    case "union": {
      const members = btf.members(id).map((member) => ({ name: named(member.name) }));
      return { ...common, size, members };
    }
    default:
      return { ...common, type_id: typeId };
  }
}

testUnless(kernelTypesObstacle ?? bpftoolObstacle)(
  "every type matches bpftool, with the properties of its kind",
  async () => {
    const { types } = await bpftoolJson<{ types: readonly PrintedDetails[] }>(
      ...["btf", "dump", "file", vmlinux],
    );
    const btf = Btf.kernel();
    const kinds = new Map<string, number>();
    // The BTF of kernels before 6.1 does not record signs: there bpftool prints every enum as unsigned.
    const signsRecorded = types.some(
      ({ kind, encoding }) => kind === "ENUM" && encoding === "SIGNED",
    );
    for (const type of types) {
      const read = details(btf, type.id);
      const { encoding } = read as PrintedDetails;
      const printed = type.kind === "ENUM" && !signsRecorded ? { ...type, encoding } : type;
      kinds.set(printed.kind, (kinds.get(printed.kind) ?? 0) + 1);
      if (printed.kind === "ENUM" && isSignExtended(printed, read)) continue;
      if (!isPartOf(printed, read)) expect(printed).toMatchObject(read as never);
    }
    for (const kind of ["FUNC", "FUNC_PROTO", "ENUM", "INT"]) {
      expect(kinds.get(kind)).toBeGreaterThan(0);
    }
  },
);

/** Compares enums. bpftool 7.1 sign-extends values from 2^31 on to 64 bits, which counts as equal. */
function isSignExtended(printed: PrintedDetails, read: object): boolean {
  const values = printed.values?.map(({ name, val }, index) => {
    const value = (read as PrintedDetails).values?.[index]?.val ?? NaN;
    const extended = Number(BigInt.asUintN(64, BigInt(value | 0)));
    return { name, val: (value | 0) < 0 && val === extended ? value : val };
  });
  return isPartOf({ ...printed, values }, read);
}

/** Compares like `toMatchObject`, which would take minutes for this many types. */
function isPartOf(whole: unknown, part: unknown): boolean {
  if (typeof part !== "object" || part === null) return whole === part;
  if (Array.isArray(part) && part.length !== (whole as readonly unknown[]).length) return false;
  return Object.entries(part).every(([key, value]) =>
    isPartOf((whole as Record<string, unknown>)[key], value),
  );
}

kernelTypesTest(
  "every named type of the kernel is found by its name, with all types of the same name",
  () => {
    const btf = Btf.kernel();
    for (const kind of [
      "struct",
      "union",
      "enum",
      "typedef",
      "func",
      "var",
      "fwd",
      "int",
    ] as const) {
      const byName = new Map<string, number[]>();
      for (const id of btf.ids(kind)) {
        const { name } = btf.type(id);
        if (name !== "") byName.set(name, [...(byName.get(name) ?? []), id]);
      }
      if (kind === "struct" || kind === "func") expect(byName.size).toBeGreaterThan(1000);
      for (const [name, ids] of byName) {
        if (!Bun.deepEquals(btf.findAll(kind, name), ids)) {
          expect({ name, ids: btf.findAll(kind, name) }).toEqual({ name, ids });
        }
        if (ids.length === 1) expect(btf.find(kind, name)).toBe(ids[0] as number);
        else expect(() => btf.find(kind, name)).toThrow(ids.join(", "));
      }
    }
  },
);

kernelTypesTest("functions of the kernel have parameters, and kfuncs have tags", () => {
  const btf = Btf.kernel();
  const id = btf.find("func", "wake_up_process") ?? expect.unreachable();
  const [task, ...rest] = btf.parameters(id);
  expect(rest).toEqual([]);
  expect(btf.declaration(task?.typeId ?? 0)).toBe("struct task_struct *");
  expect(btf.parameters(btf.type(id).typeId)).toEqual(btf.parameters(id));
  expect(btf.declaration(id)).toBe(`int wake_up_process(struct task_struct *${task?.name})`);
  expect(() => btf.parameters(1)).toThrow("only functions have parameters");
  expect(btf.tags(id)).toEqual([]);
  // Tagged by pahole 1.26, in kernels since 6.10.
  for (const tagId of btf.ids("decl_tag")) {
    const { name, typeId, componentIndex } = btf.type(tagId);
    expect(btf.tags(typeId)).toContainEqual({ name, componentIndex: componentIndex ?? NaN });
  }
});

kernelTypesTest("mapped BTF equals the contents of its file", () => {
  expect(Buffer.compare(readKernelBtf(), readFileSync(vmlinux))).toBe(0);
  const [major = 0, minor = 0] = release().split(".").map(Number);
  if (major < 6 || (major === 6 && minor < 16)) return;
  expect(Btf.kernel().length).toBeGreaterThan(0);
  expect(readFileSync("/proc/self/maps", "utf8")).toContain(vmlinux);
});

test("a file that cannot be mapped is read", () => {
  expect(Buffer.from(readKernelBtf("/proc/version"))).toEqual(readFileSync("/proc/version"));
});

describe("look-ups by name", () => {
  /** Number of look-ups: the first ones search all names, the last ones use the index. */
  const lookUpCount = 50;

  test("throw if several types have the name", () => {
    const types = new RawTypes();
    const number = types.int("int", 4);
    const first = types.struct("pair", 4, [{ name: "a", type: number, bit: 0 }]);
    const other = types.union("pair", 4, [{ name: "a", type: number, bit: 0 }]);
    const second = types.struct("pair", 8, [
      { name: "b", type: number, bit: 0 },
      { name: "a", type: number, bit: 32 },
    ]);
    const btf = Btf.parse(types.encode());
    for (let round = 0; round < lookUpCount; round++) {
      expect(btf.findAll("struct", "pair")).toEqual([first, second]);
      expect(btf.find("union", "pair")).toBe(other);
      expect(() => btf.find("struct", "pair")).toThrow(
        new RangeError(
          `this BTF has 2 types of the kind struct with the name pair: ${first}, ${second}; findAll() returns their ids`,
        ),
      );
    }
    expect(() => btf.field("pair", "a")).toThrow(
      "with a at different offsets: pass one of their ids",
    );
    expect(() => btf.field("pair", "b")).toThrow("has no field b");
    expect(btf.field(second, "a")).toEqual({ offset: 4, size: 4, typeId: number });
    expect(() => btf.field(number, "a")).toThrow("has no field a");
  });

  test("return a field that is the same in all structs of a name", () => {
    const types = new RawTypes();
    const number = types.int("int", 4);
    types.struct("task", 8, [{ name: "pid", type: number, bit: 32 }]);
    types.struct("task", 16, [{ name: "pid", type: number, bit: 32 }]);
    const btf = Btf.parse(types.encode());
    expect(btf.field("task", "pid")).toEqual({ offset: 4, size: 4, typeId: number });
  });

  test("find names that are the end of another string, or are stored twice", () => {
    const types = new RawTypes();
    types.int("int", 4);
    const offset = types.name("print_int");
    const whole = types.nameAt(offset).typedef("", 1);
    const end = types.nameAt(offset + "print_".length).typedef("", 1);
    const again = types.typedef("int", 1);
    const longer = types.typedef("int_", 1);
    const btf = Btf.parse(types.encode());
    for (let round = 0; round < lookUpCount; round++) {
      expect(btf.findAll("typedef", "int")).toEqual([end, again]);
      expect(btf.findAll("int", "int")).toEqual([1]);
      expect(btf.findAll("typedef", "print_int")).toEqual([whole]);
      expect(btf.findAll("typedef", "int_")).toEqual([longer]);
      for (const name of ["t", "in", "print_", "nt", "", "\0", "int\0int"]) {
        expect(btf.findAll("typedef", name)).toEqual([]);
      }
    }
  });

  test("find names that are not ASCII", () => {
    const types = new RawTypes();
    const id = types.int("zähler", 4);
    const btf = Btf.parse(types.encode());
    for (let round = 0; round < lookUpCount; round++) expect(btf.find("int", "zähler")).toBe(id);
  });
});

test("types have the properties of their kind", () => {
  const types = new RawTypes();
  const number = types.int("int", 4, 1);
  const proto = types.functionProto(number, [
    ["a", number],
    ["", types.ptr(number)],
    ["", 0],
  ]);
  const linkages = [0, 1, 2].map((linkage) => types.func(`f${linkage}`, proto, linkage));
  const variables = [0, 1, 2].map((linkage) => types.variable(`v${linkage}`, number, linkage));
  const odd = types.func("odd", proto, 7);
  const forwards = [types.forward("s"), types.forward("u", "union")];
  const enums = [types.enum("e", 4, { A: 1 }), types.enum("e", 4, { A: -1 }, true)];
  const struct = types.struct("s", 8, [
    { name: "a", type: number, bit: 0 },
    { name: "b", type: number, bit: 32 },
  ]);
  types.declTag("whole", struct);
  types.declTag("second", struct, 1);
  const small = types.int("small", 4, 2, 3, 5);
  const btf = Btf.parse(types.encode());

  expect(btf.parameters(proto)).toEqual([
    { name: "a", typeId: number },
    { name: "", typeId: proto + -1 },
    { name: "", typeId: 0 },
  ]);
  expect(btf.parameters(linkages[0] ?? 0)).toEqual(btf.parameters(proto));
  for (const ids of [linkages, variables]) {
    expect(ids.map((id) => btf.type(id).linkage)).toEqual(["static", "global", "extern"]);
  }
  expect(btf.type(odd).linkage).toBeUndefined();
  expect(forwards.map((id) => btf.type(id).declares)).toEqual(["struct", "union"]);
  expect(enums.map((id) => btf.type(id).isSigned)).toEqual([false, true]);
  expect(btf.tags(struct)).toEqual([
    { name: "whole", componentIndex: -1 },
    { name: "second", componentIndex: 1 },
  ]);
  expect(btf.tags(number)).toEqual([]);
  expect(btf.integer(small)).toEqual({
    isSigned: false,
    isBool: false,
    isChar: true,
    bitOffset: 5,
    bitSize: 3,
  });
  expect(() => btf.integer(struct)).toThrow("not an integer");
});

describe("bit-fields whose width is in an integer type (compilers before 2019)", () => {
  const types = new RawTypes();
  const int = types.int("int", 4, 1);
  const low = types.int("unsigned int", 4, 0, 3);
  const high = types.qualified("const", types.typedef("high_t", types.int("int", 4, 1, 5, 3)));
  const old = types.struct("old", 12, [
    { name: "low", type: low, bit: 0 },
    { name: "high", type: high, bit: 0 },
    { name: "across", type: int, bit: 36 },
    { name: "whole", type: int, bit: 64 },
  ]);
  const outer = types.struct("outer", 24, [
    { name: "before", type: old, bit: 0 },
    { name: "", type: old, bit: 96 },
  ]);
  const btf = Btf.parse(types.encode());

  bpfTest("are accepted by the kernel", () => {
    loadBtf(types.encode(), "types of a test")[Symbol.dispose]();
  });

  test("are members with a width and the offset of their first bit", () => {
    expect(btf.members(old)).toEqual([
      { name: "low", typeId: low, bitOffset: 0, bitSize: 3 },
      { name: "high", typeId: high, bitOffset: 3, bitSize: 5 },
      { name: "across", typeId: int, bitOffset: 36, bitSize: 32 },
      { name: "whole", typeId: int, bitOffset: 64, bitSize: 0 },
    ]);
    // Like bit-fields whose width is in the struct.
    const modern = new RawTypes();
    const unsigned = modern.int("unsigned int", 4);
    const same = modern.struct("same", 4, [
      { name: "low", type: unsigned, bit: 0, bits: 3 },
      { name: "high", type: unsigned, bit: 3, bits: 5 },
    ]);
    const places = Btf.parse(modern.encode()).members(same);
    expect(places.map(({ bitOffset, bitSize }) => [bitOffset, bitSize])).toEqual([
      [0, 3],
      [3, 5],
    ]);
  });

  test("are rejected by field()", () => {
    for (const path of ["low", "high", "across"]) {
      expect(() => btf.field("old", path)).toThrow(new RangeError(`old.${path} is a bit-field`));
      expect(() => btf.field(outer, `before.${path}`)).toThrow("is a bit-field");
      expect(() => btf.field("outer", path)).toThrow(`outer.${path} is a bit-field`);
    }
    expect(btf.field("outer", "whole")).toEqual({ offset: 20, size: 4, typeId: int });
  });

  test("are decoded, also in nested structs", () => {
    const bytes = Uint8Array.from({ length: 24 }, (_, at) => (at % 12 === 0 ? 0b1000_1010 : 0));
    expect(btf.decode(outer, bytes)).toEqual({
      before: { low: 2, high: -15, across: 0, whole: 0 },
      low: 2,
      high: -15,
      across: 0,
      whole: 0,
    });
  });
});

test("the numbers of members and kinds have the wider fields of Linux 7.2", () => {
  const count = 0x1_0001;
  const members = Array.from({ length: count }, (_, index) => [named, 1, index * 32]);
  const info = (kinds.struct << 24) | count;
  const btf = Btf.parse(
    encode([int, [named, info, count * 4, ...members.flat()], [named, 8 << 24, 2]]),
  );
  expect(btf.members(2)).toHaveLength(count);
  expect(btf.type(3)).toMatchObject({ kind: "typedef", typeId: 2 });
  expect(() => Btf.parse(encode([int, [0, 0x41 << 24, 0]]))).toThrow("unknown kind 65");
});

/** Returns raw BTF with types that are given as words. */
function encode(types: readonly (readonly number[])[], strings = "\0name\0"): Uint8Array {
  const words = types.flat();
  const bytes = new Uint8Array(24 + words.length * 4 + strings.length);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, 0xeb9f, true);
  view.setUint8(2, 1);
  const header = [24, 0, words.length * 4, words.length * 4, strings.length];
  for (const [index, word] of [...header, ...words].entries()) {
    view.setUint32(4 + index * 4, word, true);
  }
  bytes.set(Buffer.from(strings), 24 + words.length * 4);
  return bytes;
}

const int = [1, 1 << 24, 4, 32];
const kinds = {
  ...{ ptr: 2, array: 3, struct: 4, enum: 6, typedef: 8, const: 10, func: 12, func_proto: 13 },
  ...{ decl_tag: 17, enum64: 19 },
};
const named = 1;

describe("damaged BTF", () => {
  test("is rejected with another magic number or byte order", () => {
    for (const bytes of [new Uint8Array(0), new Uint8Array(100), Uint8Array.of(0xeb, 0x9f, 1, 0)]) {
      expect(() => Btf.parse(bytes)).toThrow(
        new RangeError("not BTF of a little-endian machine: the magic number 0xeb9f is missing"),
      );
    }
  });

  test("is rejected if truncated anywhere", () => {
    const whole = encode([int, [named, (kinds.struct << 24) | 1, 4, named, 1, 0]]);
    expect(Btf.parse(whole).length).toBe(3);
    for (let length = 2; length < whole.length; length++) {
      expect(() => Btf.parse(whole.slice(0, length))).toThrow(/^BTF is truncated: its header/);
    }
    // The header is right, but the last struct has one member too many.
    expect(() =>
      Btf.parse(encode([int, [named, (kinds.struct << 24) | 2, 4, named, 1, 0]])),
    ).toThrow("BTF is truncated: type 2 extends beyond the end of the types");
    expect(() => Btf.parse(encode([int, [0]]))).toThrow("BTF is truncated: type 1 extends beyond");
  });

  test("is rejected with an unknown kind, or kind 0", () => {
    expect(() => Btf.parse(encode([int, [0, 31 << 24, 0]]))).toThrow(
      "BTF type 2 has the unknown kind 31: it is from a newer kernel, or the bytes are damaged",
    );
    expect(() => Btf.parse(encode([[0, 0, 0]]))).toThrow("unknown kind 0");
  });

  test("is rejected with an unterminated string", () => {
    for (const strings of ["", "\0name", "name\0"]) {
      expect(() => Btf.parse(encode([int], strings))).toThrow(
        "BTF is damaged: its strings do not begin and end with a NUL",
      );
    }
  });

  test("is rejected where types refer to themselves, except through pointers", () => {
    const typedefs = Btf.parse(
      encode([
        [named, kinds.typedef << 24, 2],
        [named, kinds.typedef << 24, 1],
      ]),
    );
    expect(() => typedefs.resolve(1)).toThrow(
      "BTF type 1 leads through a chain of more than 32 types",
    );
    const arrays = Btf.parse(encode([[0, kinds.array << 24, 0, 1, 1, 2]]));
    expect(() => arrays.sizeOf(1)).toThrow(
      "BTF type 1 leads through a chain of more than 32 types",
    );
    const pointers = Btf.parse(encode([[0, kinds.ptr << 24, 1]]));
    expect(pointers.declaration(1)).toBe("... *");
  });

  test("is read in bounded time if anonymous structs contain themselves, or each other many times", () => {
    // Each of 40 structs has two anonymous members of the next one, so there are 2^40 paths to the last.
    const depth = 40;
    const structs = Array.from({ length: depth }, (_, index) => [
      ...[index === 0 ? named : 0, (kinds.struct << 24) | 2, 8],
      ...[0, Math.min(index + 2, depth), 0],
      ...[0, Math.min(index + 2, depth), 32],
    ]);
    const btf = Btf.parse(encode(structs));
    expect(() => btf.field("name", "absent")).toThrow("name has no field absent in this BTF");
  });

  test("is rejected by decode() for unions that contain each other many times", () => {
    const depth = 30;
    const unions = Array.from({ length: depth }, (_, index) => {
      const inner = index === depth - 1 ? [named, 1, 0] : [0, index + 3, 0];
      return [index === 0 ? named : 0, (5 << 24) | 2, 4, ...inner, ...inner];
    });
    const btf = Btf.parse(encode([int, ...unions]));
    const tooMany = "has more than 1280 values in 4 bytes";
    expect(() => btf.decode(2, new Uint8Array(4))).toThrow(tooMany);
    expect(() => btf.toType(2)).toThrow(tooMany);
    expect(btf.declaration(2)).toContain("{ ... }");
  });
});

test("sizes of types and the lengths of messages are bounded", () => {
  const types = new RawTypes();
  const int = types.int("int", 4);
  for (let count = 0; count < 2000; count++) types.struct("many", 4, []);
  let array = int;
  for (let count = 0; count < 4; count++) array = types.array(array, 2 ** 31);
  // Anonymous structs may be nested to any depth.
  let inner = types.struct("", 4, [{ name: "deep", type: int, bit: 0 }]);
  for (let count = 0; count < 20_000; count++) {
    inner = types.struct("", 4, [{ name: "", type: inner, bit: 0 }]);
  }
  const btf = Btf.parse(types.encode());
  let message = "";
  try {
    btf.find("struct", "many");
  } catch (error) {
    ({ message } = error as RangeError);
  }
  expect(message).toMatch(/^this BTF has 2000 types .* many: 2, 3, .*, 101 and 1900 more; findAll/);
  expect(() => btf.sizeOf(array)).toThrow(
    new RangeError(`BTF type ${array} is larger than any value: the bytes are damaged`),
  );
  expect(btf.field(inner, "deep")).toEqual({ offset: 0, size: 4, typeId: int });
});

test("types are read at any alignment, as in a section of an object file", () => {
  const raw = encode([int, [named, (kinds.struct << 24) | 1, 4, named, 1, 0]]);
  for (let shift = 0; shift < 8; shift++) {
    const shifted = new Uint8Array(raw.length + 8);
    shifted.set(raw, shift);
    const btf = Btf.parse(shifted.subarray(shift, shift + raw.length));
    expect(btf.field("name", "name")).toEqual({ offset: 0, size: 4, typeId: 1 });
  }
});

test("64-bit enumerators are numbers if they are safe integers, otherwise bigints", () => {
  const signed = 1 << 31;
  const strings = "\0E\0small\0large\0";
  const values = [3, 7, 0, 9, 0xffff_ffff, 0xffff_ffff];
  const [unsigned, negative] = [0, signed].map((flag) =>
    Btf.parse(encode([[1, (kinds.enum64 << 24) | flag | 2, 8, ...values]], strings)).enumerators(1),
  );
  expect(unsigned).toEqual([
    { name: "small", value: 7 },
    { name: "large", value: 2n ** 64n - 1n },
  ]);
  expect(negative).toEqual([
    { name: "small", value: 7 },
    { name: "large", value: -1 },
  ]);
  const narrow = [1, ((kinds.enum << 24) | signed | 1) >>> 0, 4, 3, 0xffff_fffe];
  expect(Btf.parse(encode([narrow], strings)).enumerators(1)).toEqual([
    { name: "small", value: -2 },
  ]);
});

test("random damage ends quickly, with a result or a RangeError", () => {
  const seed = (Math.random() * 0x1_0000_0000) >>> 0;
  let state = seed;
  const random = (bound: number) => {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    return (state >>> 8) % bound;
  };
  const whole = encode([
    int,
    [named, (kinds.struct << 24) | 2, 8, named, 3, 0, 0, 4, 32],
    [0, kinds.array << 24, 0, 1, 1, 2],
    [0, (kinds.struct << 24) | 1, 4, named, 5, 0],
    [named, kinds.typedef << 24, 1],
    [named, (kinds.enum << 24) | 1, 4, named, 5],
    [0, (kinds.func_proto << 24) | 2, 1, named, 10, 0, 0],
    [named, kinds.func << 24, 7],
    [0, kinds.const << 24, 3],
    [0, kinds.ptr << 24, 7],
    [named, kinds.decl_tag << 24, 2, 1],
  ]);
  let parsed = 0;
  for (let round = 0; round < repetitions(20_000); round++) {
    const bytes = whole.slice();
    for (let count = 1 + random(4); count > 0; count--) bytes[random(bytes.length)] = random(256);
    try {
      const btf = Btf.parse(bytes);
      parsed++;
      for (let id = 0; id < btf.length; id++) {
        for (const use of [
          () => btf.type(id),
          () => btf.resolve(id),
          () => btf.sizeOf(id),
          () => btf.members(id),
          () => btf.enumerators(id),
          () => btf.field("name", "absent"),
          ...(round % 8 === 0 ? slower(btf, id) : []),
        ]) {
          attempt(use, seed);
        }
      }
    } catch (error) {
      if (!(error instanceof RangeError)) throw new Error(`seed ${seed}`, { cause: error });
    }
  }
  expect(parsed).toBeGreaterThan(repetitions(1000));
});

function slower(btf: Btf, id: number): readonly (() => unknown)[] {
  return [
    () => btf.parameters(id),
    () => btf.integer(id),
    () => btf.tags(id),
    () => btf.declaration(id),
    () => btf.toType(id),
    () => btf.findAll("struct", "name"),
  ];
}

function attempt(use: () => unknown, seed: number): void {
  try {
    use();
  } catch (error) {
    const isStackOverflow = /call stack/.test(String(error));
    if (!(error instanceof RangeError) || isStackOverflow) {
      throw new Error(`seed ${seed}`, { cause: error });
    }
  }
}

test("a kernel without BTF is an error in one line", () => {
  const read = () => readKernelBtf("/sys/kernel/btf/no_such_module");
  expect(read).toThrow(BpfError);
  expect(read).toThrow(
    "cannot read the kernel's type information at /sys/kernel/btf/no_such_module: open: ENOENT (no such file or directory). It needs a kernel with CONFIG_DEBUG_INFO_BTF",
  );
});
