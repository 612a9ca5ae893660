import { describe } from "./describe.ts";
import { suggest } from "./names.ts";

/** No layout is larger: the kernel holds the sizes of keys and values in a signed 32-bit integer. */
export const LARGEST_SIZE = 0x7fffffff;

/**
 * Checks an argument that counts something.
 *
 * @throws {RangeError} when it is not an integer from `min` to `max`
 */
export function checkCount(what: string, value: number, min: number, max = LARGEST_SIZE): void {
  if (!Number.isInteger(value) || value < min || value > max) {
    throw new RangeError(
      `${what}: expected an integer from ${min} to ${max}, got ${describe(value)}`,
    );
  }
}

/** Checks an option that is on or off. @throws {TypeError} */
export function checkBoolean(what: string, value: boolean): void {
  if (typeof value === "boolean") return;
  throw new TypeError(`${what}: expected true or false, got ${describe(value)}`);
}

/**
 * Checks the size of a whole layout.
 *
 * @throws {RangeError} when it is larger than any key or value can be
 */
export function checkSize(what: string, size: number): void {
  if (size > LARGEST_SIZE) {
    throw new RangeError(`${what}: ${size} bytes are more than the largest type, ${LARGEST_SIZE}`);
  }
}

/**
 * Checks an alignment.
 *
 * @throws {RangeError} when it is not a power of two
 */
export function checkAlign(what: string, align: number): void {
  checkCount(what, align, 1, 4096);
  if ((align & (align - 1)) !== 0) {
    throw new RangeError(`${what}: expected a power of two, got ${align}`);
  }
}

/**
 * Checks that an argument is an object whose own names are all known.
 *
 * @throws {TypeError} naming the option that is not, with a hint
 */
export function checkOptions(what: string, options: object, known: readonly string[]): void {
  if (typeof options !== "object" || options === null) {
    throw new TypeError(`${what}: expected an object, got ${describe(options)}`);
  }
  for (const name of Object.keys(options)) {
    if (known.includes(name)) continue;
    throw new TypeError(`${what}: unknown option ${JSON.stringify(name)}: ${suggest(name, known)}`);
  }
}

/**
 * What an iterable argument has.
 *
 * @throws {TypeError} when it is none, or a text, whose characters are hardly meant
 */
export function listOf<T>(items: Iterable<T>, what: string): T[] {
  if (typeof items === "object" && items !== null && Symbol.iterator in items) return [...items];
  throw new TypeError(`${what}: expected an array or another iterable, got ${describe(items)}`);
}
