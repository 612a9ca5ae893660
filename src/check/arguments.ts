import { describe } from "./describe.ts";
import { suggest } from "./names.ts";

/**
 * The maximum size of a layout, in bytes. It is the largest value of an array map, INT_MAX (array_map_alloc_check() in
 * kernel/bpf/arraymap.c); other map types have lower limits.
 */
const LARGEST_SIZE = 0x7fffffff;

/**
 * Checks that an argument is an integer within a range.
 *
 * @throws {RangeError} if it is not an integer from `min` to `max`.
 */
export function checkCount(what: string, value: number, min: number, max = LARGEST_SIZE): void {
  if (!Number.isInteger(value) || value < min || value > max) {
    throw new RangeError(
      `${what}: expected an integer from ${min} to ${max}, got ${describe(value)}`,
    );
  }
}

/** Checks that an argument is a boolean. @throws {TypeError} if it is not. */
export function checkBoolean(what: string, value: boolean): void {
  if (typeof value === "boolean") return;
  throw new TypeError(`${what}: expected true or false, got ${describe(value)}`);
}

/** Checks that an argument is one of a few strings. @throws {TypeError} if it is not; the message names them. */
export function checkChoice(what: string, value: string, choices: readonly string[]): void {
  if (choices.includes(value)) return;
  const names = choices.map((choice) => JSON.stringify(choice));
  const list = `${names.slice(0, -1).join(", ")} or ${names.at(-1)}`;
  throw new TypeError(`${what}: expected ${list}, got ${describe(value)}`);
}

/**
 * Checks the size of a layout.
 *
 * @throws {RangeError} if it is larger than {@link LARGEST_SIZE}.
 */
export function checkSize(what: string, size: number): void {
  if (size > LARGEST_SIZE) {
    throw new RangeError(`${what}: expected at most ${LARGEST_SIZE} bytes, got ${size}`);
  }
}

/**
 * Checks an alignment.
 *
 * @throws {RangeError} if it is not a power of two.
 */
export function checkAlign(what: string, align: number): void {
  checkCount(what, align, 1, 4096);
  if ((align & (align - 1)) !== 0) {
    throw new RangeError(`${what}: expected a power of two, got ${align}`);
  }
}

/**
 * Checks that an argument is an object and has only known options.
 *
 * @throws {TypeError} if an option is not known; the message names it and suggests a similar one.
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
 * Returns the items of an iterable argument.
 *
 * @throws {TypeError} if it is not iterable, or is a string.
 */
export function listOf<T>(items: Iterable<T>, what: string): T[] {
  if (typeof items === "object" && items !== null && Symbol.iterator in items) return [...items];
  throw new TypeError(`${what}: expected an array or another iterable, got ${describe(items)}`);
}
