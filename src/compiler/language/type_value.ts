import type { AnyType } from "../../maps/map_options.ts";
import { FixedValue } from "./value.ts";

/** Number of characters of a type's name in messages. */
const maxNameLength = 60;

/** Returns the name of a type for messages. */
export function shortName({ name }: { readonly name: string }): string {
  return name.length > maxNameLength ? `${name.slice(0, maxNameLength)}…` : name;
}

/** A `t` type of the scope. */
export class TypeValue extends FixedValue {
  readonly type: AnyType;

  constructor(type: AnyType) {
    super();
    this.type = type;
  }

  override describe(): string {
    return `the type ${shortName(this.type)}`;
  }
}
