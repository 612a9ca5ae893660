import { compileRead, emitNestedRead, type Place, type Recipe, type Source } from "./compile.ts";
import { inspectCustom, memberPath, refuseType } from "../check/describe.ts";
import type { Member } from "./struct_layout.ts";
import type { StructCursor, Type } from "./type.ts";

type Fields = Record<string, unknown>;

/** A member of a struct that has a value, and how that is read. */
export interface Part extends Member {
  readonly recipe: Recipe<unknown>;
}

// A type from elsewhere may claim to be a struct: these are the ones that `struct` made.
const structs = new WeakMap<Type<unknown>, readonly Part[]>();
const cursorRecipes = new WeakMap<Type<unknown>, Recipe<StructCursor<unknown>>>();

/** The event of a cursor: the type that it has, and what copies it. */
interface Origin {
  readonly type: Type<unknown>;
  copy(): unknown;
}

const origins = new WeakMap<object, Origin>();

/** Notes what a struct consists of, for its cursors and copies. */
export function setParts(type: Type<unknown>, parts: readonly Part[]): void {
  structs.set(type, parts);
}

/** A cursor over structs of a type that {@link setParts} knows, before its first place. */
export function makeCursor<T>(type: Type<T>): StructCursor<T> {
  let recipe = cursorRecipes.get(type);
  if (recipe === undefined) {
    recipe = cursorRecipe(type);
    cursorRecipes.set(type, recipe);
  }
  // The table's entry for a Type<T> makes cursors over T, which a WeakMap cannot express.
  return compileRead(recipe as Recipe<StructCursor<T>>)(released(), 0);
}

/**
 * A plain object with the fields of a struct, those of structs within it copied as well.
 *
 * @throws {TypeError} if it is no object, or lacks a field
 * @throws {Error} if it is the event of a cursor that was released
 */
export function copyStruct<T>(type: Type<T>, value: unknown): T {
  const origin = typeof value === "object" && value !== null ? origins.get(value) : undefined;
  return (origin?.type === type ? origin.copy() : copyFields(type, value, "")) as T;
}

function copyFields(type: Type<unknown>, value: unknown, path: string): Fields {
  if (typeof value !== "object" || value === null) {
    return refuseType(path, `an object (${type.name})`, value);
  }
  // By definition, not by assignment, which the name "__proto__" would turn into something else.
  return Object.fromEntries(
    partsOf(type).map((part) => {
      const field = (value as Fields)[part.name];
      const fieldPath = memberPath(path, part.name);
      // A custom type may well stand for undefined.
      if (field === undefined && !(part.name in value)) {
        throw new TypeError(
          `missing field ${JSON.stringify(fieldPath)}: expected ${part.type.name}`,
        );
      }
      return [
        part.name,
        structs.has(part.type) ? copyFields(part.type, field, fieldPath) : field,
      ] as const;
    }),
  );
}

function partsOf(type: Type<unknown>): readonly Part[] {
  return structs.get(type) as readonly Part[];
}

/**
 * A recipe whose "value" is a cursor. The parameters of the function that it compiles to are the place
 * that the cursor moves: the getters of the event and of those within it read by these variables, so
 * that two stores move them all. Optimized, a getter costs what calling DataView by hand does, whether
 * it is the object's own, as here, so that the fields can be listed and spread, or a prototype's. (Where
 * one callback serves several cursors of a type, a prototype's would save 2 ns of 8 for three fields.)
 */
function cursorRecipe(type: Type<unknown>): Recipe<StructCursor<unknown>> {
  return {
    weight: 1,
    emitRead(source, place) {
      const event = emitEvent(source, type, place);
      return `{
        event: ${event},
        moveTo(nextView, nextOffset) { view = nextView; offset = nextOffset; },
        release() { view = ${source.capture(released())}; },
      }`;
    },
    read(view, offset) {
      const place = { view, offset };
      return {
        event: makeEvent(type, place, 0),
        moveTo(nextView, nextOffset) {
          place.view = nextView;
          place.offset = nextOffset;
        },
        release() {
          place.view = released();
        },
      };
    },
    emitWrite: refuseWrite,
    write: refuseWrite,
  };
}

function refuseWrite(): never {
  throw new TypeError("a cursor cannot be written");
}

/** Adds statements that make an event, and returns the variable that holds it. */
function emitEvent(source: Source, type: Type<unknown>, place: Place): string {
  const within = new Map<Part, string>();
  for (const part of partsOf(type)) {
    if (!structs.has(part.type)) continue;
    within.set(part, emitEvent(source, part.type, place.plus(part.offset)));
  }
  const event = source.variable("event");
  source.line(`const ${event} = ${source.capture(finishEvent)}({`);
  for (const part of partsOf(type)) {
    const name = JSON.stringify(part.name);
    const inner = within.get(part);
    if (inner !== undefined) {
      // A plain key "__proto__" would set the prototype.
      source.line(`[${name}]: ${inner},`);
      continue;
    }
    source.line(`get ${name}() {`);
    source.line(`return ${emitNestedRead(source, part.recipe, place.plus(part.offset))}; },`);
  }
  // By the method, which compiles itself when it is first called: most events are never copied.
  const own = source.capture(type);
  source.line(`}, ${own}, () => ${own}.read(view, ${place}));`);
  return event;
}

/** The same where code may not be made from strings. */
function makeEvent(
  type: Type<unknown>,
  place: { view: DataView; offset: number },
  start: number,
): Fields {
  const event: Fields = {};
  for (const { name, type: part, offset, recipe } of partsOf(type)) {
    const at = start + offset;
    const descriptor: PropertyDescriptor = structs.has(part)
      ? { value: makeEvent(part, place, at) }
      : { get: () => recipe.read(checkPlace(place.view), place.offset + at) };
    Object.defineProperty(event, name, { ...descriptor, enumerable: true });
  }
  return finishEvent(event, type, () => type.read(checkPlace(place.view), place.offset + start));
}

/** Makes an event show its values, and be copied in one go. */
function finishEvent(event: Fields, type: Type<unknown>, copy: () => unknown): Fields {
  origins.set(event, { type, copy });
  const show = (): unknown => {
    try {
      return copy();
    } catch (error) {
      return `[${error instanceof Error ? error.message : error}]`;
    }
  };
  // Its own, but not enumerable: what spreads or compares an event sees its fields only.
  Object.defineProperty(event, inspectCustom, { value: show });
  return Object.freeze(event);
}

let releasedView: DataView | undefined;

/**
 * Stands for the memory of an event that is nowhere: whatever is read from it is refused, so that
 * getters need not ask. (After an event was read in vain, its getters are as fast as before.)
 */
function released(): DataView {
  if (releasedView !== undefined) return releasedView;
  releasedView = new DataView(new ArrayBuffer(0));
  for (const name of Object.getOwnPropertyNames(DataView.prototype)) {
    if (name !== "constructor") Object.defineProperty(releasedView, name, { get: refuseReleased });
  }
  return releasedView;
}

function refuseReleased(): never {
  throw new Error(
    "this event was released: its bytes belong to another one by now; copy what is needed (type.copy(event)) while it is valid",
  );
}

/** For functions that call DataView's methods from its prototype. */
function checkPlace(view: DataView): DataView {
  if (view === releasedView) refuseReleased();
  return view;
}
