/** @module Makes types of `t` from the formats of tracepoints in tracefs. */

import { describe } from "../check/describe.ts";
import { array } from "../types/array.ts";
import { bool, i16, i32, i64, i8, u16, u32, u64, u8 } from "../types/integer.ts";
import { defineStruct, struct } from "../types/struct.ts";
import { type Field, layOutAsPlaced } from "../types/struct_layout.ts";
import { bytes, cstring } from "../types/text.ts";
import type { StructType, Type } from "../types/type.ts";
import { readTracepoint, tracepoint } from "./tracepoint.ts";

/** The place of an array without a fixed length, `__data_loc` in the format, in bytes. */
export interface DataLocation {
  /** From the start of the event; for a `__rel_data_loc` from the end of this field. */
  readonly offset: number;
  readonly length: number;
}

/** A value in an event of a tracepoint. */
export type TracepointValue =
  number | bigint | boolean | string | Uint8Array | DataLocation | readonly (number | bigint)[];

/** The type of a tracepoint's events. */
export type TracepointType = StructType<Readonly<Record<string, Type<TracepointValue>>>>;

/**
 * Makes the `t` type of a tracepoint's events from its format in the running kernel: each field with its offset, size and sign.
 *
 * - integers, enums and pointers are `t.u8` to `t.i64`, `bool` is `t.bool`;
 * - arrays of `char` are `t.cstring`, those of other bytes `t.bytes`, and all others `t.array`;
 * - arrays without a fixed length (`__data_loc`) are a {@link DataLocation}: their data comes after the fields.
 *
 * It is the type of the context of programs with the section `tp/...`. Programs cannot read the first 8 bytes, the fields
 * `common_*`: one that copies its context copies from byte 8 on. `fields` has the offset of each field.
 *
 * @param target `category/name`
 * @throws {BpfError} `ENOENT` when the kernel has no such tracepoint, `EACCES` when this user may not read tracefs
 * @throws {TypeError} for a target that is not `category/name`
 *
 * @example
 * ```ts
 * import { tracepointType } from "bun-bpf";
 * const type = tracepointType("sched/sched_switch");
 * console.log(type.fields["next_pid"]?.offset, type.fields["next_comm"]?.type.name); // 56 cstring(16)
 * ```
 */
export function tracepointType(target: string): TracepointType {
  if (typeof target !== "string" || !tracepoint.targetForm.test(target)) {
    const meant =
      typeof target === "string" && /^[^/:]+:[^/:]+$/.test(target)
        ? `: did you mean ${JSON.stringify(target.replace(":", "/"))}?`
        : "";
    throw new TypeError(
      `tracepointType(target): expected category/name, as "sched/sched_switch", got ${describe(target)}${meant}`,
    );
  }
  return parseTracepointFormat(readTracepoint(target, "format"), `tracepoint ${target}`);
}

/** Makes the type of a format. @param name the name in errors @throws {Error} when the format has no fields */
export function parseTracepointFormat(format: string, name: string): TracepointType {
  const fields = new Map<string, Field & { readonly offset: number }>();
  const lines = format.matchAll(/^\s*field:(.*);\s*offset:(\d+);\s*size:(\d+);\s*signed:(\d);/gm);
  for (const [, declaration = "", offset, size, sign] of lines) {
    const field = parseField(declaration, Number(size), sign === "1");
    // Empty arrays have no value, and a second field of the same name cannot have one.
    if (field === undefined || fields.has(field.name)) continue;
    fields.set(field.name, { ...field, offset: Number(offset) });
  }
  if (fields.size === 0) throw new Error(`the format of the ${name} has no fields: ${format}`);
  const inOrder = [...fields.values()].sort((a, b) => a.offset - b.offset);
  return defineStruct(layOutAsPlaced(inOrder), false, name);
}

/** Makes a field from its declaration in the format: `unsigned char name[16]`, or `__data_loc char[] name`. */
function parseField(declaration: string, size: number, isSigned: boolean): Field | undefined {
  const [, words = "", name = "", lengths = ""] =
    /^(.*?)([A-Za-z_]\w*)\s*((?:\[[^\]]*\])*)$/.exec(declaration.trim()) ?? [];
  if (name === "" || size === 0) return undefined;
  const type = typeOf(words.trim(), lengths, size, isSigned);
  return { name, type, size: type.size, align: type.align };
}

function typeOf(
  words: string,
  lengths: string,
  size: number,
  isSigned: boolean,
): Type<TracepointValue> {
  if (/^__(rel_)?data_loc\b/.test(words) && size === 4) return dataLocation;
  if (lengths === "") {
    if (words === "bool" && size === 1) return bool;
    return (isSigned ? signed : unsigned).get(size) ?? bytes(size);
  }
  // Some kernels have the name of a constant there: then only byte arrays have a known length.
  const counts = [...lengths.matchAll(/\[(.*?)\]/g)].map(([, count]) => Number(count));
  const isByte = byteTypes.test(words);
  const count = isByte ? size : counts.reduce((product, factor) => product * factor, 1);
  if (count === size) return /^(const )?char$/.test(words) ? cstring(size) : bytes(size);
  const element = (isSigned ? signed : unsigned).get(size / count);
  return element === undefined ? bytes(size) : (array(element, count) as Type<TracepointValue>);
}

const byteTypes = /^(const )?((un)?signed )?char$|^(__)?[us]8$|^u?int8_t$/;

const signed = /*@__PURE__*/ integersBySize([i8, i16, i32, i64]);
const unsigned = /*@__PURE__*/ integersBySize([u8, u16, u32, u64]);

function integersBySize(
  types: readonly (Type<number> | Type<bigint>)[],
): ReadonlyMap<number, Type<TracepointValue>> {
  return new Map(types.map((type) => [type.size, type as Type<TracepointValue>]));
}

/** An offset in the lower and a length in the upper half of 32 bits. */
const dataLocation: Type<TracepointValue> = /*@__PURE__*/ struct({
  offset: u16,
  length: u16,
}) as Type<TracepointValue>;
