/** The path of a member below `path` (empty for the value itself): `addr.port`, or `addr["odd name"]`. */
export function memberPath(path: string, name: string): string {
  if (!/^[\p{ID_Start}_$][\p{ID_Continue}$]*$/u.test(name))
    return `${path}[${JSON.stringify(name)}]`;
  return path === "" ? name : `${path}.${name}`;
}

/** The path of an element below `path`: `ports[3]`. */
export function elementPath(path: string, index: number): string {
  return `${path}[${index}]`;
}

const LONGEST_QUOTE = 60;

/** A value as an error message shows it: short, and with its type evident. */
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

/** Throws the TypeError for a value of the wrong JavaScript type. */
export function refuseType(path: string, expected: string, value: unknown, hint = ""): never {
  throw new TypeError(message(path, expected, value, hint));
}

/** Throws the RangeError for a value of the right type that the layout cannot hold. */
export function refuseRange(path: string, expected: string, value: unknown, hint = ""): never {
  throw new RangeError(message(path, expected, value, hint));
}

/** Messages of errors, before and after a context was added. */
const messages = new WeakMap<object, { readonly plain: string; readonly shown: string }>();

/** A thrown value, and the place within a call where it was thrown. The caller adds the call itself. */
export class Located {
  readonly error: unknown;
  readonly place: string;

  constructor(error: unknown, place: string) {
    this.error = error;
    this.place = place;
  }
}

/**
 * Returns the error to throw for an error of a type, with the context before its message.
 *
 * Where the message can be changed it is the same error, with its class and properties. An error that is thrown again gets the new
 * context instead of the old one. A value whose message cannot be changed (a frozen error, a DOMException, not an error) becomes
 * the `cause` of a new error, which is a TypeError or RangeError if the value is one.
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
  // Not by the property's descriptor: an error that was made without a message has none.
  if (!Reflect.set(thrown, "message", shown)) {
    const Class = [TypeError, RangeError].find((known) => thrown instanceof known) ?? Error;
    return new Class(shown, { cause: thrown });
  }
  messages.set(thrown, { plain, shown });
  return thrown;
}

/** What `console.log` calls to show a value: Node's `util.inspect.custom`, without the milliseconds that loading `node:util` takes. */
export const inspectCustom: unique symbol = Symbol.for("nodejs.util.inspect.custom");

/** The arguments of a method of this name. */
export type InspectArguments = readonly [
  depth: number,
  options: object,
  inspect: (value: unknown, options: object) => string,
];

/**
 * Shows an object in the console by its properties, without its methods. The name is a parameter because minifiers shorten the
 * names of classes.
 */
export function show(
  className: string,
  properties: object,
  [, options, inspect]: InspectArguments,
): string {
  return `${className} ${inspect(properties, options)}`;
}
