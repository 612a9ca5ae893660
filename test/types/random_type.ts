import * as t from "../../src/types/t.ts";
import type { Random } from "./random.ts";

/** A type, and a function that makes random values of it. */
export interface Sample {
  readonly type: t.Type<unknown>;
  value(): unknown;
}

const TEXTS = ["", "a", "bash", "é", "日本", "🐝", "kworker/0:1", "\u0080"];
const CODECS = { size: 3, read: readThree, write: writeThree };

function readThree(view: DataView, offset: number): string {
  return `${view.getUint16(offset)},${view.getUint8(offset + 2)}`;
}

function writeThree(view: DataView, offset: number, value: string): void {
  const [first, second] = value.split(",").map(Number);
  view.setUint16(offset, first!);
  view.setUint8(offset + 2, second!);
}

/** Returns a random type with at most `depth` levels of structs and arrays, sometimes in a struct with opaque fields. */
export function randomType(random: Random, depth: number): Sample {
  const sample = randomPart(random, depth);
  return random.below(4) === 0 ? withOpaqueFields(random, sample) : sample;
}

function randomPart(random: Random, depth: number): Sample {
  const shape = depth === 0 ? 0 : random.below(4);
  if (shape === 1) return randomArray(random, depth);
  return shape === 0 ? randomScalar(random) : randomStruct(random, depth);
}

/** Adds opaque fields in an outermost struct, because a struct can have only one of each kind, at any depth. */
function withOpaqueFields(random: Random, { type, value }: Sample): Sample {
  const inner = t.struct(
    random.pick([
      { lock: t.spinLock, type },
      { type, lock: t.spinLock },
    ]),
  );
  return random.pick<Sample>([
    { type: inner, value: () => ({ type: value() }) },
    {
      type: t.struct({ id: t.u8, timer: t.timer, inner }),
      value: () => ({ id: random.below(256), inner: { type: value() } }),
    },
  ]);
}

function randomStruct(random: Random, depth: number): Sample {
  const length = 1 + random.below(6);
  const names = random.pick([
    ["a", "b", "c", "d", "e", "f"],
    ["__proto__", "x y", "", "constructor", '"', "é"],
  ]);
  const parts = names.slice(0, length).map((name) => {
    const isBits = random.below(4) === 0;
    return { name, sample: isBits ? randomBits(random) : randomPart(random, depth - 1) };
  });
  const fields = Object.fromEntries(parts.map(({ name, sample }) => [name, sample.type]));
  return {
    type: t.struct(fields, { packed: random.below(3) === 0 }),
    value: () => Object.fromEntries(parts.map(({ name, sample }) => [name, sample.value()])),
  };
}

/** Returns a random bit-field, for a member of a struct. */
function randomBits(random: Random): Sample {
  const base = random.pick([t.u8, t.u16, t.u32, t.i8, t.i16, t.i32, t.u64, t.i64]);
  const width = 1 + random.below(base.size * 8);
  const number = (): number | bigint => {
    const bits = random.pick([0n, random.bits64(), 2n ** 64n - 1n, 1n << BigInt(width - 1)]);
    const value = base.signed ? BigInt.asIntN(width, bits) : BigInt.asUintN(width, bits);
    return base.size === 8 ? value : Number(value);
  };
  return random.pick<Sample>([
    { type: t.bits(base as t.Type<unknown>, width), value: number },
    { type: t.bits(t.bool, 1), value: () => random.below(2) === 1 },
    {
      type: t.bits(t.enum({ NONE: 0, SOME: 1, MOST: 6 }), 3),
      value: () => random.pick(["NONE", "SOME", "MOST", 2, 7]),
    },
  ]);
}

function randomArray(random: Random, depth: number): Sample {
  const length = random.pick([1, 2, 3, 5, 33, 70]);
  const element = randomPart(random, depth - 1);
  return {
    type: t.array(element.type, length),
    value: () => Array.from({ length }, () => element.value()),
  };
}

function randomScalar(random: Random): Sample {
  const integer = random.pick([
    t.u8,
    t.u16,
    t.u32,
    t.i8,
    t.i16,
    t.i32,
    t.u64Number,
    t.i64Number,
    t.be16,
    t.be32,
  ]);
  const wide = random.pick([t.u64, t.i64, t.be64]);
  const length = random.pick([1, 2, 5, 16, 17, 40]);
  const address = () => Array.from({ length: 4 }, () => random.below(256)).join(".");
  return random.pick<Sample>([
    {
      type: integer,
      value: () =>
        random.pick([
          integer.min,
          integer.max,
          0,
          integer.min + random.below(integer.max - integer.min + 1),
        ]),
    },
    {
      type: wide,
      value: () => {
        const bits = random.bits64() >> BigInt(random.below(64));
        return wide.signed ? BigInt.asIntN(64, bits) : bits;
      },
    },
    {
      type: t.f32,
      value: () => random.pick([0, -0, 0.1, 1e38, -2.5, Infinity, NaN].map(Math.fround)),
    },
    { type: t.f64, value: () => random.pick([0, -0, 0.1, 5e-324, 1.7e308, -Infinity, NaN]) },
    {
      type: t.u128,
      value: () => (random.bits64() << 64n) | random.pick([0n, random.bits64(), 2n ** 64n - 1n]),
    },
    {
      type: t.i128,
      value: () => BigInt.asIntN(128, random.pick([2n ** 127n, -1n, random.bits64() << 60n])),
    },
    {
      type: t.enum({ A: 0, "odd name": 7, B: 255 }),
      value: () => random.pick(["A", "B", "odd name", 9]),
    },
    {
      type: t.enum({ LOW: -2, HIGH: 100 }, { base: t.i8 }),
      value: () => random.pick(["LOW", "HIGH", -128]),
    },
    {
      type: t.enum({ SMALL: 1n, HUGE: 2n ** 63n }, { base: t.u64 }),
      value: () => random.pick(["SMALL", "HUGE", 2n ** 64n - 1n]),
    },
    { type: t.bool, value: () => random.below(2) === 1 },
    {
      type: t.bytes(length),
      value: () => Uint8Array.from({ length }, () => random.below(256)),
    },
    {
      type: t.cstring(length),
      value: () => random.pick(TEXTS.filter((text) => Buffer.byteLength(text) < length)),
    },
    { type: t.ipv4, value: address },
    { type: t.ipv6, value: () => `2001:db8::${(1 + random.below(65535)).toString(16)}` },
    { type: t.mac, value: () => `02:42:ac:11:00:${(16 + random.below(240)).toString(16)}` },
    { type: t.cidr4, value: () => `${address()}/32` },
    { type: t.cidr6, value: () => `2001:db8:${1 + random.below(9)}::/48` },
    { type: t.custom(CODECS), value: () => `${random.below(65536)},${random.below(256)}` },
  ]);
}
