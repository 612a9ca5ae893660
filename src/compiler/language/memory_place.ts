/** @module Places in memory, and their bytes. */

import type { AnyType } from "../../maps/map_options.ts";
import type { AccessSize, Node } from "../ir/ir.ts";
import type { Lowering, Syntax } from "./value.ts";

/** A place in memory. */
export interface MemoryPlace {
  readonly pointer: Node;
  readonly offset: number;
  /** The reason why the memory cannot be written; `undefined` if it can. */
  readonly readOnly: string | undefined;
  /** Alignment of the memory at offset 0 of the pointer. */
  readonly align: number;
  /** True if nothing writes to the memory after it has been read. */
  readonly isStable: boolean;
  /** Reports an error if the memory has moved. */
  readonly check?: (l: Lowering, at: Syntax) => void;
}

/** Returns the place at a pointer to memory that can be written. */
export function writablePlace(pointer: Node): MemoryPlace {
  return { pointer, offset: 0, readOnly: undefined, align: 8, isStable: false };
}

/** Returns the place at a pointer to memory that does not change after it has been read. @param reason why it cannot be written */
export function stablePlace(pointer: Node, reason: string): MemoryPlace {
  return { pointer, offset: 0, readOnly: reason, align: 8, isStable: true };
}

/** Returns room on the stack for a value. */
export function newSlot(l: Lowering, type: AnyType): MemoryPlace {
  return writablePlace(l.b.slot({ size: type.size, align: 8, name: type.name }));
}

/** Returns the place some bytes further. */
export function placeAt(place: MemoryPlace, offset: number): MemoryPlace {
  return { ...place, offset: place.offset + offset };
}

/** Returns the sizes of accesses that cover some bytes: the greatest that the alignment allows. */
function* accesses(
  offset: number,
  length: number,
  align: number,
): Generator<{ at: number; size: AccessSize }> {
  for (let at = 0; at < length;) {
    let size: AccessSize = 8;
    while (size > 1 && (size > align || (offset + at) % size !== 0 || at + size > length)) {
      size = (size / 2) as AccessSize;
    }
    yield { at, size };
    at += size;
  }
}

/** Copies bytes between two places. */
export function copyBytes(l: Lowering, from: MemoryPlace, to: MemoryPlace, length: number): void {
  const align = Math.min(from.align, to.align);
  const isParallel = (from.offset - to.offset) % 8 === 0;
  for (const { at, size } of accesses(to.offset, length, isParallel ? align : 1)) {
    l.b.store(to.pointer, to.offset + at, size, l.b.load(from.pointer, from.offset + at, size));
  }
}

/** Writes zeros. */
export function zeroBytes(l: Lowering, place: MemoryPlace, length: number): void {
  for (const { at, size } of accesses(place.offset, length, place.align)) {
    l.b.store(place.pointer, place.offset + at, size, 0);
  }
}

/** Writes known bytes. */
export function storeBytes(l: Lowering, place: MemoryPlace, bytes: Uint8Array): void {
  for (const { at, size } of accesses(place.offset, bytes.length, place.align)) {
    l.b.store(place.pointer, place.offset + at, size, l.b.constant(wordOf(bytes, at, size)));
  }
}

/** Returns a node that is 1 if a place has known bytes, and 0 otherwise. */
export function equalBytes(l: Lowering, place: MemoryPlace, bytes: Uint8Array): Node {
  const { b } = l;
  let difference = b.constant(0);
  for (const { at, size } of accesses(place.offset, bytes.length, place.align)) {
    const word = b.load(place.pointer, place.offset + at, size);
    difference = b.binary(
      "or",
      difference,
      b.binary("xor", word, b.constant(wordOf(bytes, at, size))),
    );
  }
  return b.compare("eq", difference, 0);
}

/** Returns a node that is 1 if two places have the same bytes, and 0 otherwise. */
export function equalPlaces(
  l: Lowering,
  first: MemoryPlace,
  second: MemoryPlace,
  length: number,
): Node {
  const { b } = l;
  const isParallel = (first.offset - second.offset) % 8 === 0;
  const align = isParallel ? Math.min(first.align, second.align) : 1;
  let difference = b.constant(0);
  for (const { at, size } of accesses(first.offset, length, align)) {
    const each = b.binary(
      "xor",
      b.load(first.pointer, first.offset + at, size),
      b.load(second.pointer, second.offset + at, size),
    );
    difference = b.binary("or", difference, each);
  }
  return b.compare("eq", difference, 0);
}

/** Returns some bytes as a number in the machine's byte order. */
function wordOf(bytes: Uint8Array, at: number, size: AccessSize): bigint {
  const padded = new Uint8Array(8);
  padded.set(bytes.subarray(at, at + size));
  const view = new DataView(padded.buffer);
  return BigInt.asIntN(64, view.getBigUint64(0, true));
}
