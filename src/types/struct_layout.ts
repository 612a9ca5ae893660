import { isOpaque } from "./opaque.ts";
import type { Extent, Type } from "./type.ts";

/** A member of a struct to be placed, with its size and alignment. */
export interface Field extends Extent {
  readonly name: string;
  readonly type: Type<unknown>;
  /** The number of bits of a bit-field. */
  readonly width?: number;
  /** Bytes from the struct's start, if its place is given. */
  readonly offset?: number;
}

/** A member of a struct and where it lies, in bytes from the struct's start. */
export interface Member {
  readonly name: string;
  readonly type: Type<unknown>;
  readonly offset: number;
  /** The same in bits, for a bit-field. */
  readonly bitOffset?: number;
}

/** Bytes that hold no part of the value: padding, and members that are the kernel's own. */
export interface Gap {
  readonly offset: number;
  readonly length: number;
}

/** The places of a struct's members, as a C compiler for BPF, x86-64 or arm64 computes them. */
export interface Layout {
  readonly size: number;
  readonly align: number;
  readonly members: readonly Member[];
  /** In memory order. */
  readonly gaps: readonly Gap[];
  /** The bytes that bit-fields share: each adds its own bits. */
  readonly shared: readonly Gap[];
}

/** Returns the next multiple of a power of two. Not by bit operations: those are of 32 bits with a sign. */
export function roundUp(value: number, align: number): number {
  return Math.ceil(value / align) * align;
}

/**
 * Places members one after another at their natural alignment, or with no padding when packed.
 *
 * Bit-fields follow each other without padding, but none crosses a boundary of its own type unless the struct is packed. A
 * zero-width one moves to the next such boundary, packed or not.
 */
export function layOut(fields: readonly Field[], packed: boolean): Layout {
  const members: Member[] = [];
  const gaps: Gap[] = [];
  const shared: Gap[] = [];
  /** The end of the placed members in bytes. */
  let end = 0;
  /** The same in bits: smaller only within the last byte. */
  let bits = 0;
  let align = 1;
  for (const { name, type, size, align: natural, width, offset: given } of fields) {
    const own = packed ? 1 : natural;
    if (width !== 0) align = Math.max(align, own);
    let offset = given ?? roundUp(end, own);
    if (width !== undefined) {
      if (width === 0 || (!packed && (bits % (size * 8)) + width > size * 8)) {
        bits = roundUp(bits, natural * 8);
      }
      offset = Math.floor(bits / 8);
    }
    if (offset > end) gaps.push({ offset: end, length: offset - end });
    if (width === 0) {
      end = offset;
      continue;
    }
    if (width === undefined) {
      members.push({ name, type, offset });
      if (isOpaque(type)) gaps.push({ offset, length: size });
      end = offset + size;
      bits = end * 8;
      continue;
    }
    members.push({ name, type, offset, bitOffset: bits });
    bits += width;
    const after = Math.ceil(bits / 8);
    if (after > end)
      shared.push({ offset: Math.max(offset, end), length: after - Math.max(offset, end) });
    end = Math.max(end, after);
  }
  const size = roundUp(end, align);
  if (size > end) gaps.push({ offset: end, length: size - end });
  return { size, align, members, gaps, shared };
}

/**
 * Makes the layout of members whose places are given, in the order of their places.
 *
 * @param size the struct's size; by default it ends with its last member
 */
export function layOutAsPlaced(
  fields: readonly (Field & { readonly offset: number })[],
  size?: number,
): Layout {
  const layout = layOut(fields, true);
  const whole = size ?? layout.size;
  const padding = whole - layout.size;
  const gaps =
    padding > 0 ? [...layout.gaps, { offset: layout.size, length: padding }] : layout.gaps;
  const isAligned = ({ offset, align }: (typeof fields)[number]) =>
    offset % align === 0 && whole % align === 0;
  const align = Math.max(1, ...fields.filter(isAligned).map((field) => field.align));
  return { ...layout, size: whole, align, gaps };
}
