/** Returns the path of a member of `path`, which is empty for the value itself: `addr.port`, or `addr["odd name"]`. */
export function memberPath(path: string, name: string): string {
  if (!/^[\p{ID_Start}_$][\p{ID_Continue}$]*$/u.test(name))
    return `${path}[${JSON.stringify(name)}]`;
  return path === "" ? name : `${path}.${name}`;
}

/** Returns the path of an element of `path`: `ports[3]`. */
export function elementPath(path: string, index: number): string {
  return `${path}[${index}]`;
}

/** The number of characters of a string that messages show. */
const LONGEST_QUOTE = 60;

/** Describes a value for error messages, briefly and with a visible type. */
export function describe(value: unknown): string {
  switch (typeof value) {
    case "string":
      return value.length > LONGEST_QUOTE
        ? `${JSON.stringify(value.slice(0, LONGEST_QUOTE))}... (${value.length} characters)`
        : JSON.stringify(value);
    case "bigint":
      return `${value}n`;
    case "function":
      return "a function";
    case "object":
      return describeObject(value);
    default:
      return String(value);
  }
}

function describeObject(value: object | null): string {
  if (value === null) return "null";
  if (Array.isArray(value)) return `an array of ${value.length}`;
  if (ArrayBuffer.isView(value)) return `a ${value.constructor.name} of ${value.byteLength} bytes`;
  const name: unknown = value.constructor?.name;
  return typeof name === "string" && name !== "" && name !== "Object"
    ? `an object (${name})`
    : "an object";
}

function message(path: string, expected: string, value: unknown, hint: string): string {
  const place = path === "" ? "" : `field ${JSON.stringify(path)}: `;
  return `${place}expected ${expected}, got ${describe(value)}${hint === "" ? "" : `: ${hint}`}`;
}

/** Throws a TypeError for a value of the wrong JavaScript type. */
export function refuseType(path: string, expected: string, value: unknown, hint = ""): never {
  throw new TypeError(message(path, expected, value, hint));
}

/** Throws a RangeError for a value of the right JavaScript type that is out of range. */
export function refuseRange(path: string, expected: string, value: unknown, hint = ""): never {
  throw new RangeError(message(path, expected, value, hint));
}

/** The messages of errors, without (`plain`) and with (`shown`) their context. */
const messages = new WeakMap<object, { readonly plain: string; readonly shown: string }>();

/**
 * A thrown value, and the part of an argument that caused it, such as `value of CPU 3`. {@link withContext} adds the rest of
 * the context.
 */
export class Located {
  readonly error: unknown;
  readonly place: string;

  constructor(error: unknown, place: string) {
    this.error = error;
    this.place = place;
  }
}

/**
 * Adds a context to the message of a thrown value, and returns the error to throw.
 *
 * The result is the thrown error itself if its message can be changed. A context that was added before is replaced. A value
 * whose message cannot be changed (a frozen error, a DOMException, a value that is not an error) becomes the `cause` of a new
 * error, which is a TypeError or RangeError if the value is one.
 */
export function withContext(thrown: unknown, context: string): unknown {
  if (thrown instanceof Located) return withContext(thrown.error, `${context}: ${thrown.place}`);
  if (!(thrown instanceof Error)) {
    const text = typeof thrown === "string" ? thrown : describe(thrown);
    return new Error(`${context}: ${text}`, { cause: thrown });
  }
  let plain = thrown.message;
  const known = messages.get(thrown);
  if (known?.shown === plain) ({ plain } = known);
  const shown = `${context}: ${plain}`;
  // The property's descriptor cannot show whether the message can be changed: an error that was created without one has no
  // such property.
  if (!Reflect.set(thrown, "message", shown)) {
    const Class = [TypeError, RangeError].find((known) => thrown instanceof known) ?? Error;
    return new Class(shown, { cause: thrown });
  }
  messages.set(thrown, { plain, shown });
  return thrown;
}

/**
 * Name of the method by which `console.log` shows an object: `util.inspect.custom`. Loading `node:util` for it would take
 * milliseconds.
 */
export const inspectCustom: unique symbol = Symbol.for("nodejs.util.inspect.custom");

/** The arguments of a method named {@link inspectCustom}. */
export type InspectArguments = readonly [
  depth: number,
  options: object,
  inspect: (value: unknown, options: object) => string,
];

/**
 * Returns the text by which the console shows an object: its class and these properties. The name of the class is a parameter
 * because minifiers shorten the names of classes.
 */
export function show(
  className: string,
  properties: object,
  [, options, inspect]: InspectArguments,
): string {
  return `${className} ${inspect(properties, options)}`;
}
