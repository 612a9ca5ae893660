/** Tests of C headers with hand-made types. test/cli compiles the header of the kernel's types. */
import { describe, expect, test } from "bun:test";
import { cDefinitions } from "../../src/btf/c_header.ts";
import { Btf } from "../../src/index.ts";
import { RawTypes } from "./raw_types.ts";

function header(types: RawTypes, ...roots: readonly number[]): string {
  return [...cDefinitions(Btf.parse(types.encode()), roots)].join("");
}

describe("definitions", () => {
  test("come after those that they need, with declarations for types used through pointers", () => {
    const types = new RawTypes();
    const int = types.int("int", 4, 1);
    // In the order of ids, every type comes before the types that it needs.
    const outer = types.struct("outer", 24, [
      { name: "inner", type: int + 2, bit: 0 },
      { name: "next", type: int + 3, bit: 64 },
      { name: "other", type: int + 4, bit: 128 },
    ]);
    const inner = types.struct("inner", 4, [{ name: "state", type: int + 6, bit: 0 }]);
    types.ptr(outer);
    types.ptr(int + 5);
    types.forward("elsewhere", "union");
    types.typedef("state_t", int + 7);
    types.enum("state", 4, { ON: 1, OFF: 0 });
    expect([outer, inner]).toEqual([int + 1, int + 2]);
    expect(header(types, outer)).toBe(
      `enum state {
    ON = 1,
    OFF = 0,
};
typedef enum state state_t;
struct inner {
    state_t state;
};
struct outer;
union elsewhere;
struct outer {
    struct inner inner;
    struct outer *next;
    union elsewhere *other;
};
`,
    );
  });

  test("have numbers if several share a name, counted separately for tags and other names", () => {
    const types = new RawTypes();
    const int = types.int("int", 4, 1);
    const same = [1, 2].map((count) =>
      types.struct("same", 4 * count, [{ name: "list", type: types.array(int, count), bit: 0 }]),
    );
    const alias = types.typedef("same", int);
    const enums = ["a", "b"].map((name) => types.enum(name, 4, { ZERO: 0 }));
    const user = types.struct(
      "user",
      12,
      same.map((type, index) => ({ name: `m${index}`, type, bit: 32 * index })),
    );
    expect(header(types, user, alias, ...enums)).toBe(
      `struct same {
    int list[1];
};
struct same___2 {
    int list[2];
};
struct user {
    struct same m0;
    struct same___2 m1;
};
typedef int same;
enum a {
    ZERO = 0,
};
enum b {
    ZERO___2 = 0,
};
`,
    );
  });

  test("have attributes and padding if the default layout differs", () => {
    const types = new RawTypes();
    const [char, int, long] = [
      types.int("char", 1, 1),
      types.int("int", 4, 1),
      types.int("long", 8, 1),
    ];
    const packed = types.struct("packed", 5, [
      { name: "a", type: char, bit: 0 },
      { name: "b", type: int, bit: 8 },
    ]);
    const aligned = types.struct("aligned", 64, [
      { name: "a", type: int, bit: 0 },
      { name: "b", type: int, bit: 256 },
    ]);
    const bits = types.struct("bits", 8, [
      { name: "a", type: int, bit: 0, bits: 3 },
      { name: "b", type: int, bit: 5, bits: 2 },
      { name: "c", type: int, bit: 32, bits: 1 },
    ]);
    const plain = types.struct("plain", 16, [
      { name: "a", type: char, bit: 0 },
      { name: "b", type: long, bit: 64 },
    ]);
    const small = types.enum("small", 1, { ONE: 1 });
    expect(header(types, packed, aligned, bits, plain, small)).toBe(
      `struct packed {
    char a;
    int b;
} __attribute__((packed));
struct aligned {
    int a;
    unsigned char __gap4[28];
    int b;
    unsigned char __gap36[28];
};
struct bits {
    int a: 3;
    unsigned char : 2;
    int b: 2;
    unsigned char : 1;
    unsigned char __gap1[3];
    int c: 1;
};
struct plain {
    char a;
    long b;
};
enum small {
    ONE = 1,
} __attribute__((mode(QI)));
`,
    );
  });

  test("have C declarators", () => {
    const types = new RawTypes();
    const int = types.int("int", 4, 1);
    const handler = types.ptr(
      types.functionProto(types.ptr(types.qualified("const", int)), [
        ["text", types.ptr(types.qualified("const", types.int("char", 1, 1)))],
        ["", 0],
      ]),
    );
    const members = {
      list: types.array(types.array(int, 3), 2),
      toList: types.ptr(types.array(int, 3)),
      handlers: types.array(handler, 4),
      fixed: types.qualified("const", types.qualified("volatile", types.ptr(int))),
      none: types.ptr(types.functionProto(0)),
      flexible: types.array(types.qualified("const", int), 0),
    };
    const sizes = [24, 8, 32, 8, 8, 0];
    let bit = 0;
    const all = types.struct(
      "all",
      80,
      Object.entries(members).map(([name, type], index) => {
        const member = { name, type, bit };
        bit += 8 * (sizes[index] as number);
        return member;
      }),
    );
    expect(header(types, all)).toBe(
      `struct all {
    int list[2][3];
    int (*toList)[3];
    const int *(*handlers[4])(const char *text, ...);
    int *const volatile fixed;
    void (*none)(void);
    const int flexible[0];
};
`,
    );
  });

  test("have anonymous types where they are used", () => {
    const types = new RawTypes();
    const int = types.int("int", 4, 1);
    const union = types.union("", 4, [
      { name: "number", type: int, bit: 0 },
      { name: "kind", type: types.enum("", 4, { A: 0 }), bit: 0 },
    ]);
    const alias = types.typedef("mixed", types.struct("", 4, [{ name: "", type: union, bit: 0 }]));
    expect(header(types, alias)).toBe(
      `typedef struct {
    union {
        int number;
        enum {
            A = 0,
        } kind;
    };
} mixed;
`,
    );
  });
});

test("a union that is longer than its members has a padding member of its size", () => {
  const types = new RawTypes();
  const int = types.int("int", 4, 1);
  // union aligned { int a; struct { int b[3]; }; } __attribute__((aligned(16)));
  const inner = types.struct("", 12, [{ name: "b", type: types.array(int, 3), bit: 0 }]);
  const union = types.union("aligned", 16, [
    { name: "a", type: int, bit: 0 },
    { name: "", type: inner, bit: 0 },
  ]);
  expect(header(types, union)).toBe(`union aligned {
    int a;
    struct {
        int b[3];
    };
    unsigned char __gap0[16];
};
`);
});

test("padding members of anonymous structs have unique names in the outer struct", () => {
  const types = new RawTypes();
  const int = types.int("int", 4, 1);
  const padded = ["a", "b"].map((name) => types.struct("", 8, [{ name, type: int, bit: 0 }]));
  const union = types.union(
    "",
    8,
    padded.map((type) => ({ name: "", type, bit: 0 })),
  );
  const [outer, next] = ["outer", "next"].map((name) =>
    types.struct(name, 16, [{ name: "", type: union, bit: 0 }]),
  ) as [number, number];
  const text = (name: string) => `struct ${name} {
    union {
        struct {
            int a;
            unsigned char __gap4[4];
        };
        struct {
            int b;
            unsigned char __gap4___2[4];
        };
    };
    unsigned char __gap8[8];
};
`;
  expect(header(types, outer, next)).toBe(text("outer") + text("next"));
});

describe("damaged types", () => {
  test("have only identifiers as names", () => {
    const types = new RawTypes();
    // The kernel accepts the first name in loaded BTF; the others come from files, also of other languages.
    const int = types.int('int;\n#include "/etc/shadow"\nint', 4, 1);
    const long = types.int("long unsigned int", 8);
    const struct = types.struct("Option<u32>", 16, [
      { name: "a\nb", type: int, bit: 0 },
      { name: "long", type: long, bit: 64 },
    ]);
    const pointer = types.ptr(types.functionProto(0, [["c\nd", int]]));
    const alias = types.typedef("e\u001bf", pointer);
    const values = types.enum("g::h", 4, { "i;j": 1 });
    expect(header(types, struct, alias, values)).toBe(
      `struct Option_u32_ {
    int___include __etc_shadow__int a_b;
    long unsigned int long;
};
typedef void (*e_f)(int___include __etc_shadow__int c_d);
enum g__h {
    i_j = 1,
};
`,
    );
  });

  test("end with an error or a complete definition", () => {
    const types = new RawTypes();
    const int = types.int("int", 4, 1);
    // A pointer to an array of itself, a function that returns a pointer to itself, a struct inside itself.
    const pointer = types.ptr(int + 2);
    types.array(pointer, 4);
    const returned = types.ptr(int + 4);
    types.functionProto(returned);
    const inside = types.struct("inside", 4, [{ name: "again", type: int + 5, bit: 0 }]);
    const chain = types.typedef("one", int + 7);
    types.typedef("two", chain);
    for (const root of [pointer, returned, chain]) {
      expect(() => header(types, root)).toThrow(RangeError);
    }
    expect(header(types, inside)).toContain("struct inside {");
  });

  test("are rejected if their text would be too long", () => {
    const types = new RawTypes();
    let inner = types.int("int", 4, 1);
    // Anonymous structs with eight members each, nested eight levels deep: 16 million members.
    for (let level = 0; level < 8; level++) {
      inner = types.union(
        "",
        4,
        Array.from({ length: 8 }, (_, at) => ({ name: `m${at}`, type: inner, bit: 0 })),
      );
    }
    const root = types.struct("root", 4, [{ name: "", type: inner, bit: 0 }]);
    expect(() => header(types, root)).toThrow("too long to print");
  });

  test("are rejected if the text of their functions would be too long", () => {
    const types = new RawTypes();
    let pointer = types.ptr(types.functionProto(0));
    // Functions with eight parameters of the previous function's type, thirty levels deep.
    for (let level = 0; level < 30; level++) {
      const parameters = Array.from({ length: 8 }, (_, at) => [`p${at}`, pointer] as const);
      pointer = types.ptr(types.functionProto(0, parameters));
    }
    const root = types.typedef("nested", pointer);
    expect(() => header(types, root)).toThrow("too long to print");
  });

  test("are rejected if many types repeat the same text", () => {
    const types = new RawTypes();
    let pointer = types.ptr(types.functionProto(0));
    for (let level = 0; level < 5; level++) {
      const parameters = Array.from({ length: 8 }, (_, at) => [`p${at}`, pointer] as const);
      pointer = types.ptr(types.functionProto(0, parameters));
    }
    const aliases = Array.from({ length: 100 }, (_, at) => types.typedef(`alias${at}`, pointer));
    expect(header(types, ...aliases.slice(0, 1)).length).toBeGreaterThan(500_000);
    expect(() => header(types, ...aliases)).toThrow("too long to print");
  });
});
