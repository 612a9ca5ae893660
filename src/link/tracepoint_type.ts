/** @module Makes `t` types from the formats of tracepoints in tracefs. */

import { describe } from "../check/describe.ts";
import { array } from "../types/array.ts";
import { bool, i16, i32, i64, i8, u16, u32, u64, u8 } from "../types/integer.ts";
import { defineStruct, struct } from "../types/struct.ts";
import { type Field, layOutAtOffsets } from "../types/struct_layout.ts";
import { bytes, cstring } from "../types/text.ts";
import type { StructType, Type } from "../types/type.ts";
import { readTracepoint, tracepointForm } from "./tracepoint.ts";

/** Location of an array of variable length in an event: `__data_loc` or `__rel_data_loc` in the format. */
export interface DataLocation {
  /** Bytes from the start of the event, or for a `__rel_data_loc` from the end of this field. */
  readonly offset: number;
  /** Length in bytes. */
  readonly length: number;
}

/** The value of a field in an event of a tracepoint. */
export type TracepointValue =
  number | bigint | boolean | string | Uint8Array | DataLocation | readonly (number | bigint)[];

/** The type of a tracepoint's events. */
export type TracepointType = StructType<Readonly<Record<string, Type<TracepointValue>>>>;

/**
 * Makes the `t` type of a tracepoint's events from the format that the running kernel has in tracefs.
 *
 * - Integers, enums and pointers become `t.u8` to `t.i64`, `bool` becomes `t.bool`.
 * - Arrays of `char` become `t.cstring`, of other bytes `t.bytes`, and all other arrays `t.array`.
 * - Arrays of variable length (`__data_loc`) become a {@link DataLocation}. Their data follows the fields.
 *
 * This is the type of the context of programs with the section `tp/...`. Programs cannot read its first 8 bytes, the fields
 * `common_*`: a program that copies its context has to start at byte 8. `fields` has the offset of each field.
 *
 * @param target `category/name`
 * @throws {BpfError} `ENOENT` if the kernel has no such tracepoint.
 * @throws {BpfError} `EACCES` if this user may not read tracefs.
 * @throws {TypeError} if the target is not of the form `category/name`.
 *
 * @example
 * ```ts
 * import { tracepointType } from "bun-bpf";
 * const type = tracepointType("sched/sched_switch");
 * console.log(type.fields["next_pid"]?.offset, type.fields["next_comm"]?.type.name); // 56 cstring(16)
 * ```
 */
export function tracepointType(target: string): TracepointType {
  if (typeof target !== "string" || !tracepointForm.pattern.test(target)) {
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

/**
 * Makes a type from the text of a format.
 *
 * @param name the name of the tracepoint in errors
 * @throws {Error} if the format has no fields.
 */
export function parseTracepointFormat(format: string, name: string): TracepointType {
  const fields = new Map<string, Field & { readonly offset: number }>();
  const lines = format.matchAll(/^\s*field:(.*);\s*offset:(\d+);\s*size:(\d+);\s*signed:(\d);/gm);
  for (const [, declaration = "", offset, size, sign] of lines) {
    const field = parseField(declaration, Number(size), sign === "1");
    // Empty arrays have no value, and an object cannot have two properties of one name.
    if (field === undefined || fields.has(field.name)) continue;
    fields.set(field.name, { ...field, offset: Number(offset) });
  }
  if (fields.size === 0) throw new Error(`the format of the ${name} has no fields: ${format}`);
  const inOrder = [...fields.values()].sort((a, b) => a.offset - b.offset);
  return defineStruct(layOutAtOffsets(inOrder), false, name);
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
  // Some kernels print the name of a constant as the length. For byte arrays the length is then the size of the field.
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

/** The type of a `__data_loc`: the offset in the lower half, the length in the upper half. */
const dataLocation: Type<TracepointValue> = /*@__PURE__*/ struct({
  offset: u16,
  length: u16,
}) as Type<TracepointValue>;
