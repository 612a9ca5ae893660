import { ArrayMap, HashMap, t } from "../../src/index.ts";

/** A construction that must be rejected before any system call. */
export interface BadConstruction {
  readonly what: string;
  readonly construct: () => Disposable;
  readonly error: "TypeError" | "RangeError";
  /** Text that the message must have: the option, and the expected value. */
  readonly says: RegExp;
}

/** Untyped options, as in JavaScript: `any`, because the compiler rejects them otherwise. */
type Unchecked = any;

function hash(what: string, options: object, error: BadConstruction["error"], says: RegExp) {
  const all: Unchecked = { key: t.u32, value: t.u64, maxEntries: 4, ...options };
  return { what: `HashMap with ${what}`, construct: () => new HashMap(all), error, says };
}

function array(what: string, options: object, error: BadConstruction["error"], says: RegExp) {
  const all: Unchecked = { value: t.u64, length: 4, ...options };
  return { what: `ArrayMap with ${what}`, construct: () => new ArrayMap(all), error, says };
}

const none: Unchecked = undefined;
const entries = /maxEntries: expected an integer from 1 to 4294967295, got /;
const elements = /length: expected an integer from 1 to 4294967295, got /;

export const badConstructions: readonly BadConstruction[] = [
  {
    what: "HashMap without options",
    construct: () => new HashMap(none),
    error: "TypeError",
    says: /HashMap: expected an object, got undefined/,
  },
  {
    what: "ArrayMap without options",
    construct: () => new ArrayMap(none),
    error: "TypeError",
    says: /ArrayMap: expected an object, got undefined/,
  },
  ...([0, -1, 1.5, 2 ** 32, Number.NaN, "4", 4n, undefined] as const).flatMap((count) => [
    hash(`maxEntries ${String(count)}`, { maxEntries: count }, "RangeError", entries),
    array(`length ${String(count)}`, { length: count }, "RangeError", elements),
  ]),
  hash(
    "maxEntires",
    { maxEntires: 4 },
    "TypeError",
    /HashMap: unknown option "maxEntires": did you mean "maxEntries"\?/,
  ),
  array(
    "maxEntries",
    { maxEntries: 4 },
    "TypeError",
    /ArrayMap: unknown option "maxEntries": .* the option `length`/,
  ),
  array(
    "maxEntreis",
    { maxEntreis: 4 },
    "TypeError",
    /ArrayMap: unknown option "maxEntreis": .* the option `length`/,
  ),
  array(
    "lenght",
    { lenght: 4, length: undefined },
    "TypeError",
    /ArrayMap: unknown option "lenght": did you mean "length"\?/,
  ),
  array(
    "vlaue",
    { vlaue: t.u32 },
    "TypeError",
    /ArrayMap: unknown option "vlaue": did you mean "value"\?/,
  ),
  array("a key", { key: t.u32 }, "TypeError", /unknown option "key": known names: "value"/),
  hash("mmap", { mmap: true }, "TypeError", /unknown option "mmap"/),
  hash("a string as key type", { key: "u32" }, "TypeError", /key: expected a type .* got "u32"/),
  hash("a key that is missing", { key: undefined }, "TypeError", /key: expected a type/),
  hash(
    "an uncalled type function as value",
    { value: t.bytes },
    "TypeError",
    /value: .* meant to be called/,
  ),
  array("a value of null", { value: null }, "TypeError", /value: expected a type .* got null/),
  array("mmap as a number", { mmap: 1 }, "TypeError", /mmap: expected true or false/),
  hash(
    "a name of 16 characters",
    { name: "a".repeat(16) },
    "RangeError",
    /name: .* at most 15 characters/,
  ),
  hash(
    "a name with a space",
    { name: "a b" },
    "RangeError",
    /name: .*A-Z a-z 0-9 _ \. , got "a b"/,
  ),
  hash("a name with a NUL", { name: "a\0" }, "RangeError", /name: /),
  hash("a name beyond ASCII", { name: "zähler" }, "RangeError", /name: /),
  hash("a name as a number", { name: 5 }, "TypeError", /name: expected a string, got 5/),
  hash("an unknown flag", { flags: ["no-preallocs"] }, "TypeError", /flags: .*"no_prealloc"\?/),
  hash(
    "the name of a method of Object as flag",
    { flags: ["toString"] },
    "TypeError",
    /flags: unknown flag "toString"/,
  ),
  hash("flags as a string", { flags: "rdonly" }, "TypeError", /flags: expected an array of names/),
  hash("negative flags", { flags: -1 }, "RangeError", /flags: expected an integer from 0 to/),
  hash("flags of 33 bits", { flags: 2 ** 32 }, "RangeError", /flags: expected an integer/),
  hash("a fractional NUMA node", { numaNode: 0.5 }, "RangeError", /numaNode: expected an integer/),
  hash("NUMA node -2", { numaNode: -2 }, "RangeError", /numaNode: expected an integer from -1/),
  hash("pin as a number", { pin: 7 }, "TypeError", /pin: expected a path .* got 7/),
  hash("an empty pin", { pin: "" }, "TypeError", /pin: expected a path .* got ""/),
  hash("a pin with a NUL", { pin: "/sys/fs/bpf/a\0b" }, "TypeError", /pin: expected a path/),
];

/** Returns what is wrong with the error of a construction, or `undefined` if it is as expected. */
export function findWrongError({
  what,
  construct,
  error,
  says,
}: BadConstruction): string | undefined {
  try {
    using _map = construct();
    return `${what} was accepted`;
  } catch (thrown) {
    if (!(thrown instanceof Error)) return `${what} threw ${String(thrown)}`;
    if (thrown.constructor.name === error && says.test(thrown.message)) return undefined;
    return `${what} threw ${thrown.constructor.name}: ${thrown.message}`;
  }
}
