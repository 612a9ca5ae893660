/** @module Reads and changes single entries of maps of any type, with keys and values as text. */

import type { Btf } from "../btf/btf.ts";
import type { BtfValue } from "../btf/decode.ts";
import { MapElement } from "../ffi/bpf_map_element.ts";
import type { Descriptor } from "../ffi/descriptor.ts";
import { possibleCpus } from "../ffi/kernel.ts";
import { roundUp8 } from "../ffi/mapped_memory.ts";
import { copiedValueSize, type MapProperties } from "../maps/create.ts";
import { mapTypes } from "../maps/map_types.ts";
import { bytesAt } from "../types/memory.ts";
import type { Type } from "../types/type.ts";
import { BPF_EXIST, BPF_NOEXIST } from "../uapi/bpf.ts";
import { mapBtf, type MapOrigin, type OpenedMap, openMap, type EntryBytes } from "./map_reader.ts";

/** The condition of {@link MapEditor.update}: any key, or only an absent or a present one. */
export type UpdateCondition = "any" | "absent" | "present";

const updateFlags: Readonly<Record<UpdateCondition, number>> = {
  any: 0,
  absent: BPF_NOEXIST,
  present: BPF_EXIST,
};

/** An open map of any type, with access to single entries as bytes. */
export class MapEditor implements Disposable {
  readonly #descriptor: Descriptor;
  readonly properties: MapProperties;
  /** Bytes that the kernel copies for a value: those of all CPUs in a per-CPU map. */
  readonly #valueSize: number;

  private constructor({ descriptor, properties }: OpenedMap) {
    this.#descriptor = descriptor;
    this.properties = properties;
    try {
      const row = mapTypes.get(properties.type);
      if (row === undefined) {
        // The size of a value is not known: if the map is per-CPU, the kernel would write beyond a smaller buffer.
        throw new Error(
          `cannot read or change the entries of the ${this}: its type is newer than this version of bun-bpf`,
        );
      }
      row.requireSupport?.();
      this.#valueSize = copiedValueSize(row, properties.valueSize);
    } catch (error) {
      this.#descriptor[Symbol.dispose]();
      throw error;
    }
  }

  /**
   * Opens a map by its id (CAP_SYS_ADMIN) or by the path of a pin.
   *
   * @param access `"read"` opens a read-only descriptor
   * @throws {Error} if nothing is pinned at the path, or the pinned object is not a map.
   * @throws {BpfError} if the kernel refuses.
   */
  static open(origin: MapOrigin, access: "read" | "write"): MapEditor {
    return new MapEditor(openMap(origin, access));
  }

  /** Describes the map for messages: `hash map "counts"`. */
  toString(): string {
    return this.#descriptor.what;
  }

  /** Returns the value of a key, or the next value of a map without keys; `undefined` if there is none. */
  lookup(key: Uint8Array): Uint8Array | undefined {
    using element = this.#element(key);
    if (!element.lookup(0)) return undefined;
    return bytesAt(element.view, element.valueOffset, this.#valueSize).slice();
  }

  /** Stores a value. Returns false if the condition is not met. */
  update(entry: EntryBytes, condition: UpdateCondition): boolean {
    using element = this.#element(entry.key);
    element.setValue(entry.value);
    return element.update(updateFlags[condition]);
  }

  /** Deletes an entry. Returns false if there is none. */
  delete(key: Uint8Array): boolean {
    using element = this.#element(key);
    return element.delete();
  }

  #element(key: Uint8Array): MapElement {
    const { fd, what } = this.#descriptor;
    const element = new MapElement(fd, key.length, this.#valueSize, what);
    element.setKey(key);
    return element;
  }

  [Symbol.dispose](): void {
    this.#descriptor[Symbol.dispose]();
  }
}

/** Encodes keys and values of a map from texts: JSON by the map's types, or hexadecimal digits. */
export class EntryEncoder {
  readonly #map: MapProperties;
  readonly #btf: Btf | undefined;

  constructor(map: MapProperties) {
    this.#map = map;
    this.#btf = mapBtf(map);
  }

  /**
   * Encodes a key.
   *
   * @throws {TypeError | RangeError} if the text is not a key of the map; the message describes the expected form.
   */
  key(text: string): Uint8Array {
    const { keySize, btfKeyTypeId, type } = this.#map;
    const kind = mapTypes.get(type)?.key;
    if (kind === "descriptor") {
      throw new TypeError(
        `key: the keys of ${type} maps are file descriptors, which cannot be written as text: use a script`,
      );
    }
    const untyped = kind === "index" && keySize === 4 ? "number" : "bytes";
    return this.#part("key", text, keySize, btfKeyTypeId, untyped);
  }

  /**
   * Encodes a value.
   *
   * @param fd returns the file descriptor of the object that a text names, for a map that holds programs or maps
   * @throws {TypeError | RangeError} if the text is not a value of the map; the message describes the expected form.
   */
  value(text: string, fd: (kind: "prog" | "map", text: string) => number): Uint8Array {
    const { type, valueSize, btfValueTypeId } = this.#map;
    const row = mapTypes.get(type);
    const held = row?.value;
    switch (held) {
      case undefined:
        break;
      case "program":
        return littleEndian(fd("prog", text), valueSize);
      case "map":
        return littleEndian(fd("map", text), valueSize);
      case "interface":
      case "CPU queue":
        return this.#part("value", text, valueSize, btfValueTypeId, "number");
      default:
        throw new TypeError(
          `value: a value of ${type} maps refers to a ${held}, which cannot be written as text: use a script`,
        );
    }
    if (row?.isPerCpu !== true) {
      return this.#part("value", text, valueSize, btfValueTypeId, "bytes");
    }
    const parts = parse(text);
    const count = possibleCpus().length;
    if (!Array.isArray(parts) || parts.length !== count) {
      throw new TypeError(
        `value: expected a JSON array of ${count} values, one for each possible CPU`,
      );
    }
    const bytes = new Uint8Array(roundUp8(valueSize) * count);
    for (const [index, part] of parts.entries()) {
      const one = this.#encode(`value[${index}]`, part, valueSize, btfValueTypeId, "bytes");
      bytes.set(one, roundUp8(valueSize) * index);
    }
    return bytes;
  }

  #part(
    what: string,
    text: string,
    size: number,
    typeId: number,
    untyped: "number" | "bytes",
  ): Uint8Array {
    const isTyped = this.#btf !== undefined && typeId !== 0;
    // Hexadecimal digits are not parsed as JSON, where 1e000000 would be the number 1 instead of four bytes.
    const value = isTyped || untyped === "number" ? parse(text) : text;
    return this.#encode(what, value, size, typeId, untyped, text);
  }

  /**
   * Encodes a parsed value.
   *
   * @param text the text of the argument, if the value is the whole argument
   */
  #encode(
    what: string,
    value: JsonValue,
    size: number,
    typeId: number,
    untyped: "number" | "bytes",
    text?: string,
  ): Uint8Array {
    const digits = typeof value === "string" ? /^hex:([\s\S]*)$/.exec(value)?.[1] : undefined;
    if (digits !== undefined) return hexBytes(what, digits, size);
    if (this.#btf !== undefined && typeId !== 0) {
      return encodeTyped(what, value, this.#btf.toType(typeId), size, text);
    }
    if (untyped === "number") {
      const number =
        typeof value === "number" || typeof value === "string" ? Number(value) : Number.NaN;
      if (value !== "" && Number.isInteger(number) && number >= 0 && number <= 0xffff_ffff) {
        return littleEndian(number, size);
      }
      throw new RangeError(`${what}: expected a number from 0 to ${0xffff_ffff}`);
    }
    return hexBytes(what, typeof value === "string" ? value : "", size);
  }
}

function encodeTyped(
  what: string,
  value: JsonValue,
  type: Type<BtfValue>,
  size: number,
  text: string | undefined,
): Uint8Array {
  const view = new DataView(new ArrayBuffer(size));
  if (type.size > size) {
    throw new RangeError(
      `${what}: its type has ${type.size} bytes, more than the ${size} of the map`,
    );
  }
  const zeroes = type.read(view, 0);
  // For a type of text, an argument of digits is text, not a number.
  const given = zeroes === "" && typeof value !== "string" ? (text ?? value) : value;
  try {
    type.write(view, 0, shapeLike(zeroes, given) as BtfValue);
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    throw new TypeError(`${what}: ${error.message}`, { cause: error });
  }
  return new Uint8Array(view.buffer);
}

/** A JSON value. Integers that a number cannot represent exactly are bigints. */
type JsonValue =
  string | number | bigint | boolean | null | JsonValue[] | { [name: string]: JsonValue };

/** Parses JSON. Text that is not JSON is a string, such as an address or the name of an enumerator. */
function parse(text: string): JsonValue {
  try {
    return JSON.parse(text, (_, value: unknown, context?: { source?: string }) => {
      const isExact = typeof value !== "number" || Number.isSafeInteger(value);
      return isExact || !/^-?\d+$/.test(context?.source ?? "")
        ? value
        : BigInt(context?.source ?? 0);
    }) as JsonValue;
  } catch {
    return text;
  }
}

/** Converts numbers and numeric strings to the kind of numbers in a sample: a decoded value of zero bytes. */
function shapeLike(sample: BtfValue | undefined, value: JsonValue): unknown {
  const isNumeric = typeof value === "string" && /^(0x[0-9a-f]+|-?\d+)$/i.test(value);
  if (typeof sample === "bigint") {
    return isNumeric || Number.isSafeInteger(value) ? BigInt(value as string | number) : value;
  }
  if (typeof sample === "number") return isNumeric ? Number(value) : value;
  if (typeof sample === "boolean") return value === 0 || value === 1 ? value === 1 : value;
  if (typeof sample !== "object" || typeof value !== "object" || value === null) return value;
  if (Array.isArray(sample)) {
    return Array.isArray(value) ? value.map((part) => shapeLike(sample[0], part)) : value;
  }
  return Object.fromEntries(
    Object.entries(value).map(([name, part]) => [
      name,
      shapeLike(Object.hasOwn(sample, name) ? sample[name] : undefined, part),
    ]),
  );
}

function hexBytes(what: string, text: string, size: number): Uint8Array {
  const digits = text.replace(/\s+/g, "");
  if (/^([0-9a-f]{2})*$/i.test(digits) && digits.length === size * 2) {
    return new Uint8Array(Buffer.from(digits, "hex"));
  }
  throw new RangeError(
    `${what}: expected ${size} hexadecimal bytes, such as ${JSON.stringify("00 ".repeat(Math.min(size, 4)).trimEnd() + (size > 4 ? " ..." : ""))}`,
  );
}

function littleEndian(number: number, size: number): Uint8Array {
  const bytes = new Uint8Array(size);
  new DataView(bytes.buffer).setUint32(0, number, true);
  return bytes;
}
