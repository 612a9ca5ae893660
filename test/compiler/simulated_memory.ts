/** Memory, maps and ring buffers in JavaScript, with the operations that they have in kernel code. */

import type { AnyType } from "../../src/maps/map_options.ts";
import type { ArrayType, EnumType, FieldPlace, IntegerType } from "../../src/types/type.ts";

type Fields = Readonly<Record<string, FieldPlace<AnyType>>>;
const fieldsOf = (type: AnyType) => (type as unknown as { fields: Fields }).fields;

/** Writes a value as kernel code does: integers are cut to the size of the type, strings to their room. */
function storeSimulated(type: AnyType, view: DataView, offset: number, value: unknown): void {
  if ("byteOrder" in type && type.size <= 8) {
    const { size, byteOrder } = type as IntegerType<number>;
    const bits = BigInt.asUintN(64, BigInt(value as number | bigint | boolean));
    const isLittle = byteOrder === "native";
    if (size === 1) view.setUint8(offset, Number(bits & 0xffn));
    else if (size === 2) view.setUint16(offset, Number(bits & 0xffffn), isLittle);
    else if (size === 4) view.setUint32(offset, Number(bits & 0xffffffffn), isLittle);
    else view.setBigUint64(offset, bits, isLittle);
    return;
  }
  switch (type.kind) {
    case "bool":
      view.setUint8(offset, value === true ? 1 : 0);
      return;
    case "enum": {
      const { base, values } = type as EnumType<string, number>;
      const number = typeof value === "string" ? values[value] : value;
      return storeSimulated(base as AnyType, view, offset, number);
    }
    case "cstring": {
      const bytes = Buffer.from(value as string).subarray(0, type.size - 1);
      const room = new Uint8Array(view.buffer, view.byteOffset + offset, type.size);
      room.fill(0);
      room.set(bytes);
      return;
    }
    case "struct":
    case "union":
      for (let at = 0; at < type.size; at++) view.setUint8(offset + at, 0);
      for (const [name, field] of Object.entries(fieldsOf(type))) {
        const each = (value as Readonly<Record<string, unknown>>)[name];
        if (each !== undefined) storeSimulated(field.type, view, offset + field.offset, each);
      }
      return;
    case "array": {
      const { element, length } = type as ArrayType<unknown>;
      for (let index = 0; index < length; index++) {
        const each = (value as readonly unknown[])[index];
        storeSimulated(element as AnyType, view, offset + index * element.size, each);
      }
      return;
    }
    default:
      type.write(view, offset, value as never);
  }
}

/** Returns the value in memory: of structs and arrays an object whose properties are the memory itself. */
function viewSimulated(type: AnyType, view: DataView, offset: number): unknown {
  if (type.kind === "struct" || type.kind === "union") {
    const object = {};
    for (const [name, field] of Object.entries(fieldsOf(type))) {
      definePart(object, name, field.type, view, offset + field.offset);
    }
    return object;
  }
  if (type.kind === "array") {
    const { element, length } = type as ArrayType<unknown>;
    const object = { length };
    for (let index = 0; index < length; index++) {
      definePart(object, `${index}`, element as AnyType, view, offset + index * element.size);
    }
    return object;
  }
  return type.read(view, offset);
}

function definePart(object: object, name: string, type: AnyType, view: DataView, offset: number) {
  Object.defineProperty(object, name, {
    enumerable: true,
    get: () => viewSimulated(type, view, offset),
    set: (value: unknown) => storeSimulated(type, view, offset, value),
  });
}

const newView = (size: number) => new DataView(new ArrayBuffer(size));

/** A map. Entries are kept by the bytes of their keys. */
export class SimulatedMap {
  readonly #key: AnyType | undefined;
  readonly #value: AnyType;
  readonly #maxEntries: number;
  readonly #isArray: boolean;
  readonly #entries = new Map<string, { readonly key: Uint8Array; readonly value: DataView }>();

  constructor(key: AnyType | undefined, value: AnyType, maxEntries: number, isArray: boolean) {
    this.#key = key;
    this.#value = value;
    this.#maxEntries = maxEntries;
    this.#isArray = isArray;
  }

  get length(): number {
    return this.#maxEntries;
  }

  #bytesOf(key: unknown): Uint8Array {
    const view = newView(this.#key?.size ?? 4);
    if (this.#key === undefined) view.setUint32(0, Number(key) >>> 0, true);
    else storeSimulated(this.#key, view, 0, key);
    return new Uint8Array(view.buffer);
  }

  #find(key: unknown): { name: string; bytes: Uint8Array; value: DataView | undefined } {
    const bytes = this.#bytesOf(key);
    const name = Buffer.from(bytes).toString("hex");
    let value = this.#entries.get(name)?.value;
    if (value === undefined && this.#isArray) {
      const index = new DataView(bytes.buffer).getUint32(0, true);
      if (index < this.#maxEntries) {
        value = newView(this.#value.size);
        this.#entries.set(name, { key: bytes, value });
      }
    }
    return { name, bytes, value };
  }

  get(key: unknown): unknown {
    const { value } = this.#find(key);
    return value && this.#value.read(value, 0);
  }

  ref(key: unknown): unknown {
    const { value } = this.#find(key);
    return value && viewSimulated(this.#value, value, 0);
  }

  has(key: unknown): boolean {
    return this.#find(key).value !== undefined;
  }

  set(key: unknown, value: unknown): boolean {
    const found = this.#find(key);
    if (found.value === undefined) return this.add(key, value);
    storeSimulated(this.#value, found.value, 0, value);
    return true;
  }

  add(key: unknown, value: unknown): boolean {
    const { name, bytes, value: present } = this.#find(key);
    if (present !== undefined || this.#isArray || this.#entries.size >= this.#maxEntries)
      return false;
    const view = newView(this.#value.size);
    storeSimulated(this.#value, view, 0, value);
    this.#entries.set(name, { key: bytes, value: view });
    return true;
  }

  replace(key: unknown, value: unknown): boolean {
    return this.has(key) && this.set(key, value);
  }

  delete(key: unknown): boolean {
    return !this.#isArray && this.#entries.delete(this.#find(key).name);
  }

  take(key: unknown): unknown {
    const value = this.get(key);
    this.delete(key);
    return value;
  }

  getOrInit(key: unknown, initial: unknown): unknown {
    if (!this.has(key)) this.add(key, initial);
    return this.ref(key);
  }

  increment(key: unknown, by?: number | bigint): void {
    const { value } = this.#find(key);
    const isBigint = this.#value.kind === "u64" || this.#value.kind === "i64";
    const amount = by ?? (isBigint ? 1n : 1);
    if (value === undefined) {
      this.add(key, amount);
      return;
    }
    const sum = BigInt(this.#value.read(value, 0) as number | bigint) + BigInt(amount);
    storeSimulated(this.#value, value, 0, sum);
  }

  /** Returns the entries as they would be read from the kernel's map. */
  entries(): [key: unknown, value: unknown][] {
    return Array.from(this.#entries.values(), ({ key, value }) => [
      this.#key === undefined
        ? new DataView(key.buffer).getUint32(0, true)
        : this.#key.read(new DataView(key.buffer), 0),
      this.#value.read(value, 0),
    ]);
  }
}

/** A ring buffer, which keeps all records. */
export class SimulatedRing {
  readonly #event: AnyType;
  /** The records, as they would be read from the ring. */
  readonly records: unknown[] = [];

  constructor(event: AnyType) {
    this.#event = event;
  }

  output(record: unknown): void {
    const view = newView(this.#event.size);
    storeSimulated(this.#event, view, 0, record);
    this.records.push(this.#event.read(view, 0));
  }
}

/** The kernel library. */
export const simulatedLibrary = {
  *range(end: number): Generator<number> {
    for (let index = 0; index < end; index++) yield index;
  },
  zeroed: (type: AnyType) => viewSimulated(type, newView(type.size), 0),
  atomic: {
    add(object: Record<string, number | bigint>, name: string, amount: number | bigint): void {
      object[name] = ((object[name] as bigint) + (amount as bigint)) as bigint;
    },
  },
  u32: (value: bigint) => Number(BigInt.asUintN(32, value)),
  i32: (value: bigint) => Number(BigInt.asIntN(32, value)),
  log2: (value: number | bigint) => {
    const bits = BigInt.asUintN(64, BigInt(value)).toString(2).length - 1;
    return bits;
  },
  swap16: (value: number) => ((value & 0xff) << 8) | ((value >> 8) & 0xff),
} as const;
