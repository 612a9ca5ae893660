import { compileRead, compileWrite } from "./compile.ts";
import { type Recipe, setRecipe } from "./recipe.ts";
import type { Type } from "./type.ts";

/** What a type says about itself: everything but its methods. */
type Description<X extends Type<unknown>> = Omit<X, "read" | "write">;

/**
 * Makes a type. Its methods compile at the first call and put the compiled function in their own
 * place, so that importing the library and declaring types costs next to nothing.
 */
export function defineType<T, X extends Type<T>>(
  description: Description<X>,
  recipe: Recipe<T>,
): X {
  let read: Type<T>["read"] | undefined;
  let write: Type<T>["write"] | undefined;
  const methods: Pick<Type<T>, "read" | "write"> = {
    // A caller may have taken the method off the type before its first call: it goes on working.
    read(view, offset) {
      if (read === undefined) {
        read = compileRead(recipe);
        Object.defineProperty(type, "read", { value: read, configurable: false });
      }
      return read(view, offset);
    },
    write(view, offset, value) {
      if (write === undefined) {
        write = compileWrite(recipe);
        Object.defineProperty(type, "write", { value: write, configurable: false });
      }
      write(view, offset, value);
    },
  };
  // A description and the two methods are the whole type, which Omit keeps TypeScript from seeing.
  const type = { ...description, ...methods } as unknown as X;
  for (const name of Object.keys(type)) {
    const configurable = name === "read" || name === "write";
    Object.defineProperty(type, name, { writable: false, configurable });
  }
  Object.preventExtensions(type);
  setRecipe(type, recipe);
  return type;
}
