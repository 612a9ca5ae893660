/** @module Objects and arrays that the program makes with literals. */

import { arrayMethod, elementAt } from "./sequences.ts";
import {
  type Argument,
  iterableHint,
  NumberValue,
  type Shape,
  type Syntax,
  undefinedValue,
  Value,
  type Lowering,
} from "./value.ts";
import { Variable } from "./scope.ts";

/** Number of properties that a message names. */
const maxNames = 8;

/** An object or array that the program made with a literal. Its properties are variables. */
export class ObjectValue extends Value {
  readonly isArray: boolean;
  readonly fields: ReadonlyMap<string, Variable>;
  /** True if two names may refer to the object without the compiler knowing: then it cannot be changed. */
  isShared = false;

  constructor(fields: ReadonlyMap<string, Variable>, isArray: boolean) {
    super();
    this.fields = fields;
    this.isArray = isArray;
  }

  override describe(): string {
    if (this.isArray) return `an array of ${this.fields.size}`;
    const names = [...this.fields.keys()];
    const shown = names.length > maxNames ? [...names.slice(0, maxNames), "…"] : names;
    return `an object {${shown.map((name) => ` ${name}`).join(",")} }`;
  }

  override shape(): Shape {
    throw new Error("the shape of an object depends on its properties: use Lowering.shapeOf");
  }

  override property(l: Lowering, name: string, at: Syntax): Value {
    if (this.isArray && name === "length") return new NumberValue(this.fields.size);
    const field = this.fields.get(name);
    if (field !== undefined) return l.read(field);
    const names = [...this.fields.keys()].map((key) => JSON.stringify(key)).join(", ");
    return l.refuse(
      at,
      `this object has no property ${JSON.stringify(name)}`,
      names === "" ? "It has no properties" : `It has ${names}`,
    );
  }

  override setProperty(l: Lowering, name: string, value: Value, at: Syntax): void {
    const field = this.fields.get(name);
    if (field === undefined) {
      if (this.isArray) {
        l.refuse(
          at,
          `the array has ${this.fields.size} elements, and cannot grow`,
          "Write all elements in the literal that makes the array",
        );
      }
      l.refuse(
        at,
        `this object has no property ${JSON.stringify(name)}, and properties cannot be added later`,
        "Write all properties in the literal that makes the object",
      );
    }
    if (this.isShared) {
      l.refuse(
        at,
        "this object comes from several places, so it cannot be changed",
        "To change an entry of a map, use ref(); to change a copy, make it here: const copy = { ...object }",
      );
    }
    l.write(field, value);
  }

  override element(l: Lowering, index: Value, at: Syntax): Value {
    const known = index.known?.value;
    if (typeof known === "string") return this.property(l, known, at);
    if (typeof known !== "number") {
      if (!this.isArray) {
        l.refuse(
          at,
          "the name of a property must be known when the function is compiled",
          "Use a map, whose keys can be values of the running program",
        );
      }
      return elementAt(l, this.items(l, at), index, at);
    }
    return this.fields.has(`${known}`) ? this.property(l, `${known}`, at) : undefinedValue;
  }

  override setElement(l: Lowering, index: Value, value: Value, at: Syntax): void {
    const known = index.known?.value;
    if (typeof known !== "string" && typeof known !== "number") {
      l.refuse(
        at,
        "an element of a local array can be written only at a constant index",
        "Use memory with a type: const a = k.zeroed(t.array(t.u32, 8))",
      );
    }
    this.setProperty(l, `${known}`, value, at);
  }

  override callMethod(l: Lowering, name: string, args: readonly Argument[], at: Syntax): Value {
    return this.isArray && !this.fields.has(name)
      ? arrayMethod(l, this, name, args, at)
      : super.callMethod(l, name, args, at);
  }

  override items(l: Lowering, at: Syntax): readonly Value[] {
    if (!this.isArray) return l.refuse(at, `${this.describe()} is not iterable`, iterableHint);
    return Array.from(this.fields.values(), (field) => l.read(field));
  }

  override entries(l: Lowering): Iterable<readonly [name: string, value: Value]> {
    return Array.from(this.fields, ([name, field]) => [name, l.read(field)] as const);
  }

  override truth(): boolean {
    return true;
  }

  override equals(_l: Lowering, other: Value): boolean | undefined {
    return other instanceof ObjectValue && !this.isShared && !other.isShared
      ? this === other
      : undefined;
  }
}
