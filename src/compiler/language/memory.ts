/** @module Values in memory with the layout of a `t` type: map values, keys, records. */

import type { AnyType } from "../../maps/map_options.ts";
import type {
  ArrayType,
  BitsType,
  EnumType,
  FieldPlace,
  IntegerType,
  StructType,
  Type,
  UnionType,
} from "../../types/type.ts";
import type { AccessSize, Node } from "../ir/ir.ts";
import { booleanAsNumber, numberOf } from "./numbers.ts";
import {
  copyBytes,
  equalBytes,
  equalPlaces,
  type MemoryPlace,
  placeAt,
  storeBytes,
  zeroBytes,
  stablePlace,
} from "./memory_place.ts";
import { MemoryText, storeText, StringValue, TextValue } from "./text.ts";
import { shortName } from "./type_value.ts";
import { ObjectValue } from "./object_value.ts";
import {
  BigintValue,
  BooleanValue,
  NumberValue,
  type Shape,
  type Syntax,
  undefinedValue,
  Value,
  type Lowering,
} from "./value.ts";

const bigintKinds = new Set(["u64", "i64", "be64"]);

/** Returns true for the types of integers that have at most 64 bits. */
function isInteger(type: AnyType): type is IntegerType<number> | IntegerType<bigint> {
  return "byteOrder" in type && type.size <= 8;
}

/** Reads a value from memory. Values with parts are views of the memory. */
export function loadValue(l: Lowering, type: AnyType, place: MemoryPlace, at: Syntax): Value {
  const { b } = l;
  place.check?.(l, at);
  const { pointer, offset } = place;
  if (isInteger(type)) return loadInteger(l, type, place);
  switch (type.kind) {
    case "bool":
      return new BooleanValue(b.compare("ne", b.load(pointer, offset, 1), 0));
    case "enum":
      return loadValue(l, (type as EnumType<string, number>).base, place, at);
    case "cstring":
      return new MemoryText(stableCopy(l, place, type, at), type.size);
    case "bytes":
      return new MemoryBytes(stableCopy(l, place, type, at), type.size);
    case "ipv4":
    case "ipv6":
    case "mac":
      return new EncodedValue(type, stableCopy(l, place, type, at));
    case "struct":
    case "union":
      return new MemoryStruct(type as StructType<never> | UnionType<never>, place);
    case "array":
      return new MemoryArray(type as ArrayType<unknown>, place);
    default:
      return l.refuse(at, `kernel code cannot read values of the type ${type.name} yet`);
  }
}

function loadInteger(
  l: Lowering,
  type: IntegerType<number> | IntegerType<bigint>,
  place: MemoryPlace,
) {
  const { b } = l;
  const size = type.size as AccessSize;
  const isBig = type.byteOrder === "big" && size > 1;
  let node = b.load(place.pointer, place.offset, size, {
    signed: type.signed && !isBig && size < 8,
  });
  if (isBig) node = b.add({ kind: "swap", bits: (size * 8) as 16 | 32 | 64 }, [node]);
  if (bigintKinds.has(type.kind)) return new BigintValue(node, type.signed);
  return new NumberValue(b.number(node, { min: Number(type.min), max: Number(type.max) }));
}

/**
 * Writes a value to memory, and zeros to the padding between its parts.
 *
 * @param what the name of the value in messages
 */
export function storeValue(
  l: Lowering,
  type: AnyType,
  place: MemoryPlace,
  value: Value,
  what: string,
  at: Syntax,
): void {
  const { b } = l;
  const { pointer, offset } = place;
  place.check?.(l, at);
  const mismatch = (hint?: string): never =>
    l.refuse(at, `${what}: expected ${shortName(type)}, got ${value.describe()}`, hint);
  if (isInteger(type)) {
    const size = type.size as AccessSize;
    let node: Node;
    if (bigintKinds.has(type.kind)) {
      if (!(value instanceof BigintValue)) return mismatch("Convert it: BigInt(x)");
      node = value.node(b);
    } else if (value instanceof BooleanValue) node = booleanAsNumber(l, value).node(b);
    else {
      if (!(value instanceof NumberValue)) {
        return mismatch(
          value instanceof BigintValue
            ? "Convert it: Number(x), if it is a safe integer, or k.u32(x)"
            : undefined,
        );
      }
      node = value.node(b);
    }
    if (type.byteOrder === "big" && size > 1) {
      node = b.add({ kind: "swap", bits: (size * 8) as 16 | 32 | 64 }, [node]);
    }
    b.store(pointer, offset, size, node);
    return;
  }
  switch (type.kind) {
    case "bool":
      if (!(value instanceof BooleanValue)) return mismatch("Compare it: x !== 0");
      b.store(pointer, offset, 1, value.node(b));
      return;
    case "enum": {
      const { base, values } = type as EnumType<string, number>;
      const name = value.known?.value;
      if (typeof name === "string" && Object.hasOwn(values, name)) {
        const number = values[name] as number | bigint;
        const known =
          typeof number === "bigint" ? new BigintValue(number) : new NumberValue(number);
        return storeValue(l, base, place, known, what, at);
      }
      return storeValue(l, base, place, value, what, at);
    }
    case "cstring":
      if (!(value instanceof TextValue) && !(value instanceof StringValue)) return mismatch();
      return storeText(l, place, type.size, value);
    case "bytes":
      if (!(value instanceof MemoryBytes)) return mismatch();
      if (value.length !== type.size) return mismatch("Use bytes of the same length");
      return copyBytes(l, value.place, place, type.size);
    case "ipv4":
    case "ipv6":
    case "mac":
      if (value instanceof EncodedValue && value.type.kind === type.kind) {
        return copyBytes(l, value.place, place, type.size);
      }
      if (!(value instanceof StringValue)) return mismatch();
      return storeBytes(l, place, encode(l, type, value.text, at));
    case "struct":
      return storeStruct(l, type as StructType<never>, place, value, what, at);
    case "union":
      return storeUnion(l, type as UnionType<never>, place, value, what, at);
    case "array": {
      const { element, length } = type as ArrayType<unknown>;
      if (value instanceof MemoryArray && value.type.name === type.name) {
        return copyBytes(l, value.place, place, type.size);
      }
      const items = value.items(l, at);
      if (items?.length !== length) return mismatch(`Use ${length} elements`);
      for (const [index, item] of items.entries()) {
        storeValue(
          l,
          element as AnyType,
          placeAt(place, index * element.size),
          item,
          `${what}[${index}]`,
          at,
        );
      }
      return;
    }
    default:
      return l.refuse(at, `${what}: kernel code cannot write values of the type ${type.name} yet`);
  }
}

function storeStruct(
  l: Lowering,
  type: StructType<never>,
  place: MemoryPlace,
  value: Value,
  what: string,
  at: Syntax,
): void {
  if (value instanceof MemoryStruct && value.type.name === type.name) {
    return copyBytes(l, value.place, place, type.size);
  }
  const given = new Map(
    value instanceof ObjectValue || value instanceof MemoryStruct ? value.entries(l, at) : [],
  );
  if (!(value instanceof ObjectValue) && !(value instanceof MemoryStruct)) {
    l.refuse(at, `${what}: expected ${shortName(type)}, got ${value.describe()}`);
  }
  const fields = Object.entries(type.fields as Record<string, FieldPlace<AnyType>>);
  const names = new Set(fields.map(([name]) => name));
  for (const name of given.keys()) {
    if (!names.has(name)) {
      l.refuse(
        at,
        `${what}: ${shortName(type)} has no field ${JSON.stringify(name)}`,
        `It has ${[...names].join(", ")}`,
      );
    }
  }
  let end = 0;
  for (const [name, field] of fields) {
    const each = given.get(name);
    if (each === undefined)
      l.refuse(at, `${what}: the field ${JSON.stringify(name)} is missing`, "Write all fields");
    if (field.type.kind === "bits") {
      l.refuse(at, `${what}.${name}: kernel code cannot write bit-fields yet`);
    }
    if (field.offset > end) zeroBytes(l, placeAt(place, end), field.offset - end);
    storeValue(l, field.type, placeAt(place, field.offset), each, `${what}.${name}`, at);
    end = field.offset + field.type.size;
  }
  if (type.size > end) zeroBytes(l, placeAt(place, end), type.size - end);
}

function storeUnion(
  l: Lowering,
  type: UnionType<never>,
  place: MemoryPlace,
  value: Value,
  what: string,
  at: Syntax,
): void {
  if (value instanceof MemoryStruct && value.type.name === type.name) {
    return copyBytes(l, value.place, place, type.size);
  }
  const given = value instanceof ObjectValue ? [...value.entries(l)] : [];
  const [only] = given;
  const field = only && (type.fields as Record<string, FieldPlace<AnyType>>)[only[0]];
  if (given.length !== 1 || only === undefined || field === undefined) {
    l.refuse(
      at,
      `${what}: expected an object with one member of ${type.name}, got ${value.describe()}`,
    );
  }
  zeroBytes(l, place, type.size);
  storeValue(l, field.type, place, only[1], `${what}.${only[0]}`, at);
}

/** A value whose parts are in memory. */
abstract class MemoryValue extends Value {
  readonly place: MemoryPlace;

  constructor(place: MemoryPlace) {
    super();
    this.place = place;
  }

  /** Returns the same value elsewhere. */
  protected abstract moved(place: MemoryPlace): Value;
  protected abstract readonly key: string;

  override shape(): Shape {
    const { place } = this;
    const key = `memory ${place.offset} ${place.align} ${place.readOnly ?? ""} ${this.key}`;
    return {
      key,
      count: 1,
      toNodes: (_l, value) => [(value as MemoryValue).place.pointer],
      fromNodes: (_l, [pointer]) => this.moved({ ...place, pointer: pointer as Node }),
    };
  }

  /** Reports a write to memory that cannot be written. */
  protected checkWritable(l: Lowering, at: Syntax): void {
    const { readOnly } = this.place;
    if (readOnly !== undefined) {
      l.refuse(
        at,
        `this memory cannot be written: ${readOnly}`,
        "To change an entry of a map, use ref()",
      );
    }
  }

  override truth(_l?: Lowering, _at?: Syntax): boolean {
    return true;
  }
}

/** A struct or union in memory. */
export class MemoryStruct extends MemoryValue {
  readonly type: StructType<never> | UnionType<never>;

  constructor(type: StructType<never> | UnionType<never>, place: MemoryPlace) {
    super(place);
    this.type = type;
  }

  protected get key(): string {
    return this.type.name;
  }

  protected moved(place: MemoryPlace): Value {
    return new MemoryStruct(this.type, place);
  }

  override describe(): string {
    return `a value of the type ${shortName(this.type)}`;
  }

  /** Returns the type and the place of a field. A bit-field is some bits further than the start of the struct. */
  field(
    l: Lowering,
    name: string,
    at: Syntax,
  ): { type: AnyType; place: MemoryPlace; bitOffset: number } {
    const fields = this.type.fields as Record<string, FieldPlace<AnyType>>;
    const field = Object.hasOwn(fields, name) ? fields[name] : undefined;
    if (field === undefined) {
      l.refuse(
        at,
        `${shortName(this.type)} has no field ${JSON.stringify(name)}`,
        `It has ${Object.keys(fields).join(", ")}`,
      );
    }
    const { type, offset, bitOffset = 0 } = field;
    return { type, place: placeAt(this.place, offset), bitOffset };
  }

  override property(l: Lowering, name: string, at: Syntax): Value {
    const { type, place, bitOffset } = this.field(l, name, at);
    if (type.kind !== "bits") return loadValue(l, type, place, at);
    return loadBits(l, type as BitsType<unknown>, this.place, bitOffset);
  }

  override setProperty(l: Lowering, name: string, value: Value, at: Syntax): void {
    const { type, place } = this.field(l, name, at);
    this.checkWritable(l, at);
    if (type.kind === "bits") l.refuse(at, `${name}: kernel code cannot write bit-fields yet`);
    storeValue(l, type, place, value, name, at);
  }

  override entries(l: Lowering, at: Syntax): Iterable<readonly [name: string, value: Value]> {
    return Object.keys(this.type.fields).map((name) => [name, this.property(l, name, at)] as const);
  }
}

/** Reads a bit-field, in a unit of its declared type. */
function loadBits(
  l: Lowering,
  type: BitsType<unknown>,
  place: MemoryPlace,
  bitOffset: number,
): Value {
  const { b } = l;
  const base = type.base as IntegerType<number>;
  const unit = base.size * 8;
  const start = Math.floor(bitOffset / unit) * unit;
  const node = b.load(place.pointer, place.offset + start / 8, base.size as AccessSize);
  const low = bitOffset - start;
  const high = b.binary("lsh", node, 64 - low - type.width);
  const value = b.binary(base.signed ? "arsh" : "rsh", high, 64 - type.width);
  if (base.kind === ("bool" as string)) return new BooleanValue(b.compare("ne", value, 0));
  if (bigintKinds.has(base.kind)) return new BigintValue(value, base.signed);
  const range = base.signed
    ? { min: -(2 ** (type.width - 1)), max: 2 ** (type.width - 1) - 1 }
    : { min: 0, max: 2 ** type.width - 1 };
  return new NumberValue(b.number(value, range));
}

/** An array in memory. */
class MemoryArray extends MemoryValue {
  readonly type: ArrayType<unknown>;

  constructor(type: ArrayType<unknown>, place: MemoryPlace) {
    super(place);
    this.type = type;
  }

  protected get key(): string {
    return this.type.name;
  }

  protected moved(place: MemoryPlace): Value {
    return new MemoryArray(this.type, place);
  }

  override describe(): string {
    return `a value of the type ${shortName(this.type)}`;
  }

  override property(l: Lowering, name: string, at: Syntax): Value {
    return name === "length" ? new NumberValue(this.type.length) : super.property(l, name, at);
  }

  /** Returns the place of an element. An index that is not known must be proved to be in the array. */
  #placeOf(l: Lowering, index: Value, at: Syntax): MemoryPlace | undefined {
    const { b } = l;
    const { element, length } = this.type;
    const known = index.known?.value;
    if (typeof known === "number") {
      return known >= 0 && known < length ? placeAt(this.place, known * element.size) : undefined;
    }
    const node = numberOf(l, index, at).node(b);
    const bound = b.add({ kind: "bound", min: 0, max: length - 1 }, [node]);
    const bytes = element.size === 1 ? bound : b.binary("mul", bound, element.size);
    const { pointer, offset } = this.place;
    return { ...this.place, pointer: b.address(pointer, offset, bytes), offset: 0 };
  }

  override element(l: Lowering, index: Value, at: Syntax): Value {
    const place = this.#placeOf(l, index, at);
    return place === undefined
      ? undefinedValue
      : loadValue(l, this.type.element as AnyType, place, at);
  }

  override setElement(l: Lowering, index: Value, value: Value, at: Syntax): void {
    this.checkWritable(l, at);
    const place = this.#placeOf(l, index, at);
    if (place === undefined) {
      l.refuse(
        at,
        `the array has ${this.type.length} elements`,
        `Use an index from 0 to ${this.type.length - 1}`,
      );
    }
    storeValue(l, this.type.element as AnyType, place, value, "element", at);
  }

  override items(l: Lowering, at: Syntax): readonly Value[] | undefined {
    const { element, length } = this.type;
    if (length > 16) return undefined;
    return Array.from({ length }, (_, index) =>
      loadValue(l, element as AnyType, placeAt(this.place, index * element.size), at),
    );
  }
}

/** Bytes in memory. */
export class MemoryBytes extends MemoryValue {
  readonly length: number;

  constructor(place: MemoryPlace, length: number) {
    super(place);
    this.length = length;
  }

  protected get key(): string {
    return `bytes ${this.length}`;
  }

  protected moved(place: MemoryPlace): Value {
    return new MemoryBytes(place, this.length);
  }

  override describe(): string {
    return `${this.length} bytes`;
  }

  override property(l: Lowering, name: string, at: Syntax): Value {
    return name === "byteLength" ? new NumberValue(this.length) : super.property(l, name, at);
  }
}

/** Returns the bytes of a value that is a string outside of kernel code. */
function encode(l: Lowering, type: AnyType, text: string, at: Syntax): Uint8Array {
  const bytes = new Uint8Array(type.size);
  try {
    type.write(new DataView(bytes.buffer), 0, text as never);
  } catch (error) {
    l.refuse(at, (error as Error).message);
  }
  return bytes;
}

/** A value that is a string outside of kernel code, and bytes inside, such as an IP address. */
class EncodedValue extends MemoryValue {
  readonly type: AnyType;

  constructor(type: AnyType, place: MemoryPlace) {
    super(place);
    this.type = type;
  }

  protected get key(): string {
    return this.type.name;
  }

  protected moved(place: MemoryPlace): Value {
    return new EncodedValue(this.type, place);
  }

  override describe(): string {
    return `a value of the type ${shortName(this.type)}`;
  }

  override truth(l?: Lowering, at?: Syntax): boolean {
    if (l === undefined || at === undefined) return true;
    return l.refuse(at, `the truth of ${this.describe()} cannot be tested`, "Compare it with ===");
  }

  override equals(l: Lowering, other: Value, at: Syntax): boolean | Node | undefined {
    if (other instanceof StringValue)
      return equalBytes(l, this.place, encode(l, this.type, other.text, at));
    if (!(other instanceof EncodedValue) || other.type.kind !== this.type.kind) return undefined;
    return equalPlaces(l, this.place, other.place, this.type.size);
  }
}

/** Number of bytes that are copied to the stack at most. */
const maxCopy = 256;

/** Returns a place with the same bytes that nothing writes to. In JavaScript, strings do not change when their object does. */
function stableCopy(l: Lowering, place: MemoryPlace, type: AnyType, at: Syntax): MemoryPlace {
  if (place.isStable) return place;
  const { size, name } = type;
  if (size > maxCopy) {
    l.refuse(
      at,
      `a copy of ${name} does not fit on the stack`,
      `Use a type of at most ${maxCopy} bytes`,
    );
  }
  const copy = stablePlace(l.b.slot({ size, align: 8, name: "copy" }), "it is a copy");
  copyBytes(l, place, copy, size);
  return copy;
}

/** Returns a value that does not change when the memory does: numbers, and objects of them. */
export function copyOut(
  l: Lowering,
  type: Type<unknown>,
  place: MemoryPlace,
  at: Syntax,
  path = "",
): Value {
  const value = loadValue(l, type as AnyType, place, at);
  if (!(value instanceof MemoryStruct) || type.kind !== "struct") {
    if (!(value instanceof MemoryStruct) && !(value instanceof MemoryArray)) return value;
    return loadValue(l, type as AnyType, stableCopy(l, place, type as AnyType, at), at);
  }
  const values = new Map<string, Value>();
  for (const [name, field] of Object.entries(
    value.type.fields as Record<string, FieldPlace<AnyType>>,
  )) {
    values.set(
      name,
      field.type.kind === "bits"
        ? value.property(l, name, at)
        : copyOut(l, field.type, placeAt(place, field.offset), at, `${path}.${name}`),
    );
  }
  return l.newObject(at, values, false, path);
}
