/** Comparison of the layouts of random structs and unions with a C compiler's, bit by bit. */
import { expect } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as t from "../../src/types/t.ts";
import { hostObstacle, testUnless } from "../support/skipping.ts";
import { encode } from "./bytes_of.ts";
import { compiler } from "./generate_vectors.ts";
import { Random, seed } from "./random.ts";

const obstacle = hostObstacle ?? (compiler === null ? "there is no C compiler" : undefined);

/** A type of `t`, its declaration in C, and the C code that stores a value. */
interface Sample {
  readonly type: t.Type<unknown>;
  declare(name: string): string;
  /** Returns a value, and the C statements that store it in a member. */
  value(): { readonly value: unknown; store(place: string): string };
}

const integers = [
  [t.u8, "unsigned char"],
  [t.i8, "signed char"],
  [t.u16, "unsigned short"],
  [t.i16, "short"],
  [t.u32, "unsigned int"],
  [t.i32, "int"],
  [t.u64, "unsigned long long"],
  [t.i64, "long long"],
] as const;

/** Returns the C type of a bit-field with an explicit sign, because the sign of plain `char` depends on the machine. */
const colours = t.enum({ RED: 0, GREEN: 1, BLUE: 5 });

/** Generator of types of `t` with their C declarations. */
class Generator {
  readonly declarations: string[] = ["enum colour { RED, GREEN, BLUE = 5 };"];
  readonly #random: Random;
  #structs = 0;

  constructor(random: Random) {
    this.#random = random;
  }

  composite(depth: number): Sample & { readonly c: string } {
    const random = this.#random;
    const isUnion = random.below(4) === 0;
    const packed = !isUnion && random.below(3) === 0;
    const length = 1 + random.below(isUnion ? 4 : 8);
    const parts = Array.from({ length }, (_, index) => {
      return { name: `m${index}`, sample: this.#member(depth, isUnion) };
    });
    // A struct with only zero-width bit-fields has size 0 in C.
    if (parts.every(({ sample }) => isEnd(sample.type))) {
      parts.push({ name: "last", sample: this.#integer() });
    }
    const fields = Object.fromEntries(parts.map(({ name, sample }) => [name, sample.type]));
    const c = `${isUnion ? "union" : "struct"} c${this.#structs++}`;
    const body = parts.map(({ name, sample }) => `${sample.declare(name)};`).join(" ");
    this.declarations.push(`${c} { ${body} }${packed ? " __attribute__((packed))" : ""};`);
    return {
      c,
      type: isUnion ? t.union(fields) : t.struct(fields, { packed }),
      declare: (name) => `${c} ${name}`,
      value: () => {
        const stored = parts.filter(({ sample }) => !isEnd(sample.type));
        const chosen = isUnion ? [random.pick(stored)] : stored;
        const values = chosen.map(({ name, sample }) => ({ name, ...sample.value() }));
        return {
          value: Object.fromEntries(values.map(({ name, value }) => [name, value])),
          store: (place) => values.map(({ name, store }) => store(`${place}.${name}`)).join(" "),
        };
      },
    };
  }

  #member(depth: number, isUnion: boolean): Sample {
    const random = this.#random;
    const kind = random.below(10);
    if (kind < 4) return this.#bits(isUnion);
    if (kind === 4 && depth > 0) return this.composite(depth - 1);
    if (kind === 5) return this.#array();
    if (kind === 6) return this.#wide();
    if (kind === 7) return this.#float();
    return this.#integer();
  }

  #integer(): Sample {
    const random = this.#random;
    const [type, c] = random.pick(integers);
    return {
      type,
      declare: (name) => `${c} ${name}`,
      value: () => this.#number(type, type.size * 8),
    };
  }

  /** Returns a random integer of a number of bits, as a number or a bigint. */
  #number(type: t.IntegerType<number> | t.IntegerType<bigint>, width: number) {
    const random = this.#random;
    const bits = random.pick([0n, 1n, 2n ** 64n - 1n, 1n << BigInt(width - 1), random.bits64()]);
    const value = type.signed ? BigInt.asIntN(width, bits) : BigInt.asUintN(width, bits);
    return {
      value: type.size === 8 ? value : Number(value),
      store: (place: string) =>
        `${place} = (long long)0x${BigInt.asUintN(64, value).toString(16)}ull;`,
    };
  }

  #bits(isUnion: boolean): Sample {
    const random = this.#random;
    const [type, c] = random.pick(integers);
    // On arm64 a zero-width bit-field also aligns the struct. BPF programs have the layout of x86-64.
    if (!isUnion && process.arch === "x64" && random.below(6) === 0) {
      return {
        type: t.bits(type as t.Type<unknown>, 0),
        declare: () => `${c} : 0`,
        value: () => ({ value: undefined, store: () => "" }),
      };
    }
    const kind = random.below(6);
    if (kind === 0) {
      return {
        type: t.bits(t.bool, 1),
        declare: (name) => `_Bool ${name} : 1`,
        value: () => this.#flag(),
      };
    }
    if (kind === 1) {
      const value = random.pick(["RED", "GREEN", "BLUE"] as const);
      return {
        type: t.bits(colours, 3),
        declare: (name) => `enum colour ${name} : 3`,
        value: () => ({ value, store: (place) => `${place} = ${value};` }),
      };
    }
    const width = 1 + random.below(type.size * 8);
    return {
      type: t.bits(type as t.Type<unknown>, width),
      declare: (name) => `${c} ${name} : ${width}`,
      value: () => this.#number(type, width),
    };
  }

  #flag() {
    const value = this.#random.below(2) === 1;
    return { value, store: (place: string) => `${place} = ${value ? 1 : 0};` };
  }

  #array(): Sample {
    const [type, c] = this.#random.pick(integers);
    const length = 1 + this.#random.below(3);
    return {
      type: t.array(type as t.Type<unknown>, length),
      declare: (name) => `${c} ${name}[${length}]`,
      value: () => {
        const items = Array.from({ length }, () => this.#number(type, type.size * 8));
        return {
          value: items.map(({ value }) => value),
          store: (place) => items.map(({ store }, index) => store(`${place}[${index}]`)).join(" "),
        };
      },
    };
  }

  #wide(): Sample {
    const random = this.#random;
    const [type, c] = random.pick([
      [t.u128, "unsigned __int128"],
      [t.i128, "__int128"],
    ] as const);
    return {
      type,
      declare: (name) => `${c} ${name}`,
      value: () => {
        const [high, low] = [random.bits64(), random.bits64()];
        const bits = (high << 64n) | low;
        return {
          value: type.signed ? BigInt.asIntN(128, bits) : bits,
          store: (place) =>
            `${place} = ((unsigned __int128)0x${high.toString(16)}ull << 64) | 0x${low.toString(16)}ull;`,
        };
      },
    };
  }

  #float(): Sample {
    const [type, c] = this.#random.pick([
      [t.f32, "float"],
      [t.f64, "double"],
    ] as const);
    const value = this.#random.pick([0, -2.25, 1 / 1024, 12345.5]);
    return {
      type,
      declare: (name) => `${c} ${name}`,
      value: () => ({ value, store: (place) => `${place} = ${value};` }),
    };
  }
}

function isEnd(type: t.Type<unknown>): boolean {
  return type.kind === "bits" && (type as t.BitsType<unknown>).width === 0;
}

const structs = 150;
const samples = 4;

/** Compiles and runs a C program, and returns its output lines. */
async function runC(source: string): Promise<string[]> {
  const directory = mkdtempSync(join(tmpdir(), "bun-bpf-layout-"));
  try {
    const [file, program] = [join(directory, "layout.c"), join(directory, "layout")];
    await Bun.write(file, source);
    await Bun.$`${compiler} -std=gnu11 -w -o ${program} ${file}`.quiet();
    return (await Bun.$`${program}`.text()).trim().split("\n");
  } finally {
    rmSync(directory, { recursive: true });
  }
}

testUnless(obstacle)(
  "random structs, unions and bit-fields have the C compiler's layout",
  async () => {
    const random = new Random(seed);
    const generator = new Generator(random);
    const statements: string[] = [];
    const expected: string[] = [];
    for (let index = 0; index < structs; index++) {
      const sample = generator.composite(2);
      const { type, c } = sample;
      statements.push(`printf("%zu %zu\\n", sizeof(${c}), _Alignof(${c}));`);
      expected.push(`${type.size} ${type.align}`);
      for (let count = 0; count < samples; count++) {
        const { value, store } = sample.value();
        statements.push(`{ ${c} x; memset(&x, 0, sizeof x); ${store("x")} print(&x, sizeof x); }`);
        expected.push(encode(type, value));
        const view = new DataView(Uint8Array.fromHex(expected.at(-1) as string).buffer);
        if (!type.name.includes("union")) expect(type.read(view, 0)).toStrictEqual(value);
        else expect(type.read(view, 0)).toMatchObject(value as object);
      }
    }
    const source = `#include <stdio.h>
#include <string.h>
static void print(const void *p, size_t n) {
  for (size_t i = 0; i < n; i++) printf("%02x", ((const unsigned char *)p)[i]);
  printf("\\n");
}
${generator.declarations.join("\n")}
int main(void) {
${statements.join("\n")}
}
`;
    const lines = await runC(source);
    expect(lines).toHaveLength(expected.length);
    const wrong = lines.findIndex((line, index) => line !== expected[index]);
    const struct = Math.floor(wrong / (samples + 1));
    const text =
      wrong < 0
        ? ""
        : `${statements[wrong]} of struct ${struct}: repeat with BUN_BPF_TEST_SEED=${seed}\n${generator.declarations.join("\n")}`;
    expect(wrong < 0 ? "" : `${expected[wrong]} is not ${lines[wrong]}\n${text}`).toBe("");
  },
);
