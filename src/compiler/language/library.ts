/** @module The kernel library: the name `k` of every scope. */

import { rootOf } from "../ir/ir.ts";
import { closest } from "../../check/names.ts";
import { ipv4, ipv6, mac } from "../../types/address.ts";
import { be16, be32, u8 } from "../../types/integer.ts";
import { struct } from "../../types/struct.ts";
import * as constants from "../../uapi/constants.ts";
import * as errno from "../../uapi/errno.ts";
import * as network from "../../uapi/network.ts";
import type { AnyType } from "../../maps/map_options.ts";
import {
  type BuiltIn,
  BuiltInValue,
  builtIns,
  highestBit,
  Namespace,
  numberArgument,
} from "./globals.ts";
import { loadValue, MemoryStruct } from "./memory.ts";
import { binaryOperator, numberOf } from "./numbers.ts";
import { TypeValue } from "./type_value.ts";
import {
  type Argument,
  BigintValue,
  BooleanValue,
  FixedValue,
  NumberValue,
  type Syntax,
  undefinedValue,
  type Value,
  type Lowering,
  argument,
} from "./value.ts";
import { newSlot, zeroBytes } from "./memory_place.ts";

/** The numbers from 0 up to another: `k.range(n)`. */
class RangeValue extends FixedValue {
  readonly #end: NumberValue;

  constructor(end: NumberValue) {
    super();
    this.#end = end;
  }

  override describe(): string {
    return "a range";
  }

  override forEach(
    l: Lowering,
    at: Syntax,
    label: string | undefined,
    body: (item: Value) => void,
  ): void {
    const counter = l.frame.context.variable(at, "(counter)", false);
    l.write(counter, new NumberValue(0));
    const read = () => numberOf(l, l.read(counter), at);
    l.loop(at, label, {
      test: () => {
        const isInside = binaryOperator(l, "<", read(), this.#end, at) as BooleanValue;
        return l.test(isInside.asCondition());
      },
      body: () => body(read()),
      update: () => l.write(counter, binaryOperator(l, "+", read(), new NumberValue(1), at)),
    });
    l.state.delete(counter);
  }
}

function typeArgument(l: Lowering, args: readonly Argument[], index: number, at: Syntax): AnyType {
  const value = argument(l, args, index, at);
  if (value instanceof TypeValue) return value.type;
  return l.refuse(args[index] ?? at, `expected a type of the scope, got ${value.describe()}`);
}

/** Returns the low 32 bits of a bigint. */
const low32 =
  (signed: boolean): BuiltIn =>
  (l, args, at) => {
    const value = argument(l, args, 0, at);
    if (!(value instanceof BigintValue)) {
      return l.refuse(
        args[0] ?? at,
        `expected a bigint, got ${value.describe()}`,
        signed ? "Use x | 0" : "Use x >>> 0",
      );
    }
    const known = value.known?.value;
    if (typeof known === "bigint") {
      return new NumberValue(Number(signed ? BigInt.asIntN(32, known) : BigInt.asUintN(32, known)));
    }
    const range = signed ? { min: -(2 ** 31), max: 2 ** 31 - 1 } : { min: 0, max: 2 ** 32 - 1 };
    return new NumberValue(l.b.number(l.b.extend(value.node(l.b), 32, signed), range));
  };

/** Adds to a field of memory that other CPUs write, too. */
const atomicAdd: BuiltIn = (l, args, at) => {
  const object = argument(l, args, 0, at);
  const name = argument(l, args, 1, at).known?.value;
  const amount = argument(l, args, 2, at);
  if (!(object instanceof MemoryStruct) || typeof name !== "string") {
    return l.refuse(
      at,
      `expected memory of ref() and the name of a field, got ${object.describe()}`,
    );
  }
  const { type, place } = object.field(l, name, at);
  if (place.readOnly !== undefined)
    l.refuse(at, `this memory cannot be written: ${place.readOnly}`);
  const isBigint = amount instanceof BigintValue;
  if ((type.size !== 4 && type.size !== 8) || isBigint !== /^[ui]64$/.test(type.kind)) {
    l.refuse(at, `${name}: expected ${type.name} with 32 or 64 bits, got ${amount.describe()}`);
  }
  const node = isBigint ? amount.node(l.b) : numberOf(l, amount, at).node(l.b);
  const { pointer, offset } = place;
  const size = type.size as 4 | 8;
  if (rootOf(pointer).operation.kind === "slot") {
    // Nothing else writes there, and the verifier of Linux 6.18 overlooks that atomic operations read the stack.
    l.b.store(pointer, offset, size, l.b.binary("add", l.b.load(pointer, offset, size), node));
    return undefinedValue;
  }
  l.b.writes++;
  l.b.add({ kind: "atomic", operator: "add", size, offset }, [pointer, node]);
  return undefinedValue;
};

const functions: Readonly<Record<string, BuiltIn>> = {
  range: (l, args, at) => new RangeValue(numberArgument(l, args, 0, at)),
  zeroed: (l, args, at) => {
    const type = typeArgument(l, args, 0, at);
    if (type.size > 256) {
      l.refuse(
        at,
        `${type.size} bytes do not fit on the stack`,
        "Use a per-CPU array with one entry",
      );
    }
    const place = newSlot(l, type);
    zeroBytes(l, place, type.size);
    return loadValue(l, type, place, at);
  },
  u32: low32(false),
  i32: low32(true),
  log2: (l, args, at) => {
    const value = argument(l, args, 0, at);
    const { b } = l;
    const node = value instanceof BigintValue ? value.node(b) : numberOf(l, value, at).node(b);
    return new NumberValue(b.number(highestBit(b, node, 64).position, { min: 0, max: 63 }));
  },
  swap16: (l, args, at) => {
    const value = numberArgument(l, args, 0, at);
    const node = l.b.add({ kind: "swap", bits: 16 }, [value.node(l.b)]);
    return new NumberValue(l.b.number(node, { min: 0, max: 0xffff }));
  },
};

/** Headers of packets. */
export const headers = {
  Ethernet: struct({ destination: mac, source: mac, type: be16 }),
  Ipv4: struct({
    versionAndLength: u8,
    tos: u8,
    totalLength: be16,
    id: be16,
    fragment: be16,
    ttl: u8,
    protocol: u8,
    checksum: be16,
    source: ipv4,
    destination: ipv4,
  }),
  Ipv6: struct({
    versionAndClass: be32,
    payloadLength: be16,
    nextHeader: u8,
    hopLimit: u8,
    source: ipv6,
    destination: ipv6,
  }),
  Tcp: struct({
    source: be16,
    destination: be16,
    sequence: be32,
    acknowledgement: be32,
    lengthAndFlags: be16,
    window: be16,
    checksum: be16,
    urgent: be16,
  }),
  Udp: struct({ source: be16, destination: be16, length: be16, checksum: be16 }),
} satisfies Readonly<Record<string, AnyType>>;

const atomic = new Namespace("k.atomic", builtIns("k.atomic", { add: atomicAdd }));

/** The library. */
class Library extends FixedValue {
  override describe(): string {
    return "the kernel library";
  }

  override property(l: Lowering, name: string, at: Syntax): Value {
    if (Object.hasOwn(functions, name))
      return new BuiltInValue(`k.${name}`, functions[name] as BuiltIn);
    if (name === "atomic") return atomic;
    if (Object.hasOwn(headers, name)) return new TypeValue(headers[name as keyof typeof headers]);
    const table = [constants, errno, network].find((each) => Object.hasOwn(each, name));
    const constant = (table as Readonly<Record<string, unknown>> | undefined)?.[name];
    if (typeof constant === "number") return new NumberValue(constant);
    if (typeof constant === "bigint") return new BigintValue(constant);
    const near = closest(name, [
      ...Object.keys(functions),
      ...Object.keys(headers),
      ...[constants, errno, network].flatMap((table) => Object.keys(table)),
    ]);
    return l.refuse(
      at,
      `the kernel library has no member ${JSON.stringify(name)}`,
      near === undefined
        ? `It has constants, headers, atomic, ${Object.keys(functions).join(", ")}`
        : `Did you mean k.${near}?`,
    );
  }
}

export const library = new Library();
