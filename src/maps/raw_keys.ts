import type { MapElement } from "../ffi/bpf_map_element.ts";
import type { MapHandle } from "./create.ts";
import { bytesAt } from "../types/memory.ts";
import type { ArrayType, Fields, StructType, Type } from "../types/type.ts";

/**
 * Returns true if a type writes every value as the bytes that it was read from. Types with padding, text, floats or rounded
 * numbers do not. Returns false for an extensible object, because the types of this library are not extensible.
 */
export function isLossless(type: Type<unknown>): boolean {
  if (Object.isExtensible(type)) return false;
  const { fields = {}, element } = type as Partial<StructType<Fields> & ArrayType<unknown>>;
  if (type.kind === "array") return element !== undefined && isLossless(element);
  if (type.kind !== "struct") return /^([iu]\d+|be\d+|bytes|ipv[46]|mac|none)$/.test(type.kind);
  const size = Object.values<StructType<Fields>["fields"][string]>(fields).reduce(
    (sum, field) => (isLossless(field.type) ? sum + field.type.size : Number.NaN),
    0,
  );
  return size === type.size;
}

/** Returns bytes as a string with one character for each byte. */
function latin1(view: DataView, offset: number, size: number): string {
  return Buffer.prototype.latin1Slice.call(bytesAt(view, offset, size));
}

/**
 * Bytes of decoded keys that their type writes differently or not at all: garbage in padding, text after a NUL, rounded
 * numbers.
 *
 * The bytes of a key that is an object are kept as long as the object lives. Of other keys, at least the last `maxEntries`
 * are kept: equal keys stand for the last one that is still in the map.
 */
export class RawKeys<K> {
  readonly #map: MapHandle;
  readonly #type: Type<K>;
  /** Memory to encode a key. */
  readonly #encoded: DataView;
  /**
   * Tables from a key to the byte strings that it was decoded from, newest last. The first table is for objects, the second
   * for other keys, and the third for older ones of these. When the second table is full, it replaces the third.
   */
  readonly #tables: Pick<Map<unknown, string[]>, "get" | "has" | "set">[] = [
    new WeakMap() as Map<unknown, string[]>,
    new Map(),
    new Map(),
  ];
  /** True if a key was remembered. */
  isUsed = false;
  /** Number of keys remembered since the second table was new. */
  #count = 0;

  constructor(map: MapHandle, type: Type<K>) {
    this.#map = map;
    this.#type = type;
    this.#encoded = new DataView(new ArrayBuffer(type.size));
  }

  /** Remembers the bytes at an offset, from which a key was decoded, if its type writes other bytes. */
  remember(key: K, view: DataView, offset: number): void {
    const encoded = this.#encoded;
    const size = encoded.byteLength;
    const { maxEntries } = this.#map.info;
    const tables = this.#tables;
    let isSame = this.#write(key);
    // A loop is faster than methods of Buffer for such short keys.
    for (let i = 0; isSame && i < size; i++) {
      isSame = encoded.getUint8(i) === view.getUint8(offset + i);
    }
    // A key that is already in the tables is remembered in any case, so that these bytes become the newest.
    if (isSame && !(this.isUsed && tables.some((table) => table.has(key)))) return;
    this.isUsed = true;
    const raw = latin1(view, offset, size);
    if (++this.#count > maxEntries) {
      tables.splice(1, 2, new Map(), tables[1] as Map<unknown, string[]>);
      this.#count = 1;
    }
    const table = tables[Object(key) === key ? 0 : 1] as Map<unknown, string[]>;
    const list = table.get(key);
    if (list === undefined) table.set(key, [raw]);
    else if (list.at(-1) !== raw && list.push(raw) > maxEntries) list.shift();
  }

  /**
   * Copies the bytes that a key was decoded from into an element. Returns false if no bytes are remembered, or if the key is
   * an object that has changed since. Also returns false if no entry has the remembered bytes and the type can write the
   * key.
   */
  writeRawKey(element: MapElement, key: K): boolean {
    if (!this.isUsed) return false;
    let isKnown = false;
    for (const table of this.#tables) {
      const list = table.get(key) ?? [];
      for (const encoded of list.toReversed()) {
        const raw = Buffer.from(encoded, "latin1");
        if (Object(key) === key && this.#isChanged(key, raw)) return false;
        element.setKey(raw);
        // The type's code may have disposed of the map.
        void this.#map.descriptor.fd;
        if (element.lookup(0)) return true;
        // Keeps the last byte string, so that a key that the type cannot write is treated as absent instead of causing an
        // error.
        if (list.length > 1) list.pop();
        isKnown = true;
      }
    }
    return isKnown && !this.#write(key);
  }

  #isChanged(key: K, raw: Buffer): boolean {
    const read = this.#type.read(new DataView(raw.buffer, raw.byteOffset), 0);
    const encoded = this.#encode(key);
    return (
      encoded !== this.#encode(read) || (encoded === undefined && !Bun.deepEquals(read, key, true))
    );
  }

  /** Encodes a key. Returns false if its type rejects it. */
  #write(key: K): boolean {
    try {
      this.#type.write(this.#encoded, 0, key);
      return true;
    } catch {
      return false;
    }
  }

  #encode(key: K): string | undefined {
    return this.#write(key) ? latin1(this.#encoded, 0, this.#encoded.byteLength) : undefined;
  }
}
