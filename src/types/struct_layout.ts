import { isOpaque } from "./opaque.ts";
import type { Extent, Type } from "./type.ts";

/** A member of a struct, with its size and alignment, before its offset is computed. */
export interface Field extends Extent {
  readonly name: string;
  readonly type: Type<unknown>;
  /** Number of bits; only for bit-fields. */
  readonly width?: number;
  /** Offset in bytes from the start of the struct, if it is fixed. */
  readonly offset?: number;
}

/** A member of a struct, and its offset. */
export interface Member {
  readonly name: string;
  readonly type: Type<unknown>;
  /** Offset of the first byte from the start of the struct, in bytes. */
  readonly offset: number;
  /** Offset in bits from the start of the struct; only for bit-fields. */
  readonly bitOffset?: number;
}

/** A range of bytes in a struct, which is zeroed when the struct is written. */
interface Gap {
  readonly offset: number;
  readonly length: number;
}

/** Layout of a struct, as C compilers for BPF, x86-64 and arm64 compute it. */
export interface Layout {
  readonly size: number;
  readonly align: number;
  readonly members: readonly Member[];
  /** Padding and opaque members, in memory order. */
  readonly gaps: readonly Gap[];
  /** Bytes of bit-fields. They are zeroed first, because each bit-field ORs its bits into them. */
  readonly shared: readonly Gap[];
}

/** Rounds up to a multiple of a power of two. Bit operations would be limited to 31 bits. */
export function roundUp(value: number, align: number): number {
  return Math.ceil(value / align) * align;
}

/**
 * Computes the layout of members in order: each at its natural alignment, or without padding if packed.
 *
 * Bit-fields follow each other without padding. Unless the struct is packed, they do not cross a boundary of their declared type. A
 * zero-width bit-field moves to the next boundary of its declared type, also in packed structs.
 */
export function layOut(fields: readonly Field[], packed: boolean): Layout {
  const members: Member[] = [];
  const gaps: Gap[] = [];
  const shared: Gap[] = [];
  /** End of the members so far, in bytes. */
  let end = 0;
  /** End of the members so far, in bits. It can be inside the last byte. */
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
 * Computes the layout of members with fixed offsets.
 *
 * @param fields members in the order of their offsets
 * @param size size of the struct in bytes; by default it ends with its last member
 */
export function layOutAtOffsets(
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
