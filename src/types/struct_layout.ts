import { isOpaque } from "./opaque.ts";
import type { Extent, Type } from "./type.ts";

/** A member of a struct before it has a place, and the room that it takes. */
export interface Field extends Extent {
  readonly name: string;
  readonly type: Type<unknown>;
}

/** A member of a struct and where it lies, in bytes from the struct's start. */
export interface Member {
  readonly name: string;
  readonly type: Type<unknown>;
  readonly offset: number;
}

/** Bytes that hold no part of the value: padding, and members that are the kernel's own. */
export interface Gap {
  readonly offset: number;
  readonly length: number;
}

/** Where the members of a struct lie, as a C compiler for x86-64 or arm64 places them. */
export interface Layout {
  readonly size: number;
  readonly align: number;
  readonly members: readonly Member[];
  /** In memory order. */
  readonly gaps: readonly Gap[];
}

/** The next multiple of a power of two. Not by bit operations: those are of 32 bits with a sign. */
function roundUp(value: number, align: number): number {
  return Math.ceil(value / align) * align;
}

/** Places members one after another at their natural alignment, or with no padding when packed. */
export function layOut(fields: readonly Field[], packed: boolean): Layout {
  const members: Member[] = [];
  const gaps: Gap[] = [];
  let end = 0;
  let align = 1;
  for (const { name, type, size, align: natural } of fields) {
    const own = packed ? 1 : natural;
    const offset = roundUp(end, own);
    if (offset > end) gaps.push({ offset: end, length: offset - end });
    members.push({ name, type, offset });
    if (isOpaque(type)) gaps.push({ offset, length: size });
    end = offset + size;
    align = Math.max(align, own);
  }
  const size = roundUp(end, align);
  if (size > end) gaps.push({ offset: end, length: size - end });
  return { size, align, members, gaps };
}
