import { checkAlign, checkCount, checkOptions } from "../check/arguments.ts";
import { calledRecipe, defineType } from "./compile.ts";
import { zero } from "./memory.ts";
import { describe } from "../check/describe.ts";
import type { Type } from "./type.ts";

/** Options of {@link custom}. */
export interface CustomOptions<T> {
  /** Size of a value in bytes, padding included: a multiple of `align`, from 1 to 2^31 - 1. */
  readonly size: number;
  /**
   * Alignment in bytes: a power of two, at most 4096.
   *
   * @default 1
   */
  readonly align?: number;
  /**
   * Name of the type in messages, and in the names of types that contain it.
   *
   * @default "custom(<size>)"
   */
  readonly name?: string;
  /** Decodes the value at `offset` bytes into the view. It is called without `this`, and must not keep the view. */
  read(view: DataView, offset: number): T;
  /**
   * Checks a value and encodes it at `offset` bytes into the view. It is called without `this`. All `size`
   * bytes are zero before the call, so it need not write padding.
   */
  write(view: DataView, offset: number, value: T): void;
}

/**
 * Makes a type from two functions that decode and encode its values, for example instances of a class.
 *
 * An error that `write` throws is passed on. In a map, the map and the field are added to the error's message; if the message
 * cannot be changed (the error is frozen, a DOMException, or not an Error), the error is the `cause` of a new one. An error
 * that `read` throws is passed on; in a map it is the `cause` of a `DecodeError`.
 *
 * @throws {RangeError} if the size is not an integer from 1 to 2^31 - 1, or not a multiple of the
 * alignment, or the alignment is not a power of two.
 * @throws {TypeError} if an option is misspelt or a function is missing.
 *
 * @example
 * ```ts
 * import { t } from "bun-bpf";
 *
 * const Timestamp = t.custom<Date>({
 *   name: "timestamp",
 *   size: 8,
 *   align: 8,
 *   read: (view, offset) => new Date(t.u64Number.read(view, offset)),
 *   write: (view, offset, date) => t.u64Number.write(view, offset, date.getTime()),
 * });
 * const Login = t.struct({ uid: t.u32, at: Timestamp });
 * console.log(Login.fields.at.offset); // 8
 * ```
 */
export function custom<T>(options: CustomOptions<T>): Type<T, Uint8Array> {
  checkOptions("custom(options)", options, ["size", "align", "name", "read", "write"]);
  const { size, align = 1, name = `custom(${size})`, read, write } = options;
  checkCount("custom(options): size", size, 1);
  checkAlign("custom(options): align", align);
  if (size % align !== 0) {
    throw new RangeError(
      `custom(options): size: expected a multiple of align (${align}), got ${size}`,
    );
  }
  for (const [what, method] of Object.entries({ read, write })) {
    if (typeof method === "function") continue;
    throw new TypeError(`custom(options): ${what}: expected a function, got ${describe(method)}`);
  }
  return defineType<T, Type<T, Uint8Array>>(
    { kind: "custom", name, size, align },
    calledRecipe<T>(read, (view, offset, value) => {
      zero(view, offset, size);
      write(view, offset, value);
    }),
  );
}
