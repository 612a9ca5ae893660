/** @module How fields of the kernel's description of a link are read, whatever kind of link it is. */

import type { InfoBuffer, ObjectInfo } from "../ffi/object_info.ts";

/** Longer than any path or symbol of the kernel's: PATH_MAX. */
const longestText = 4096;

/** Room for a name. */
export function textBuffer(pointer: number, count: number): InfoBuffer {
  return { pointer, count, elements: longestText, elementSize: 1 };
}

/** A number of 32 bits that is 0 where there is none. */
export function present32(info: ObjectInfo, offset: number): number | undefined {
  const number = info.u32(offset);
  return number === 0 ? undefined : number;
}

/** A number of 64 bits that is 0 where there is none. */
export function present64(info: ObjectInfo, offset: number): bigint | undefined {
  const number = info.u64(offset);
  return number === 0n ? undefined : number;
}

/** Numbers that are all 0 where there are none. */
export function presentList(numbers: readonly bigint[]): readonly bigint[] | undefined {
  return numbers.some((number) => number !== 0n) ? numbers : undefined;
}

/** A text that is empty where there is none. */
export function presentText(text: string): string | undefined {
  return text === "" ? undefined : text;
}
