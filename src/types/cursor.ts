import { compileRead, emitNestedRead, type Place, type Recipe, type Source } from "./compile.ts";
import { inspectCustom, memberPath, refuseType } from "../check/describe.ts";
import type { Member } from "./struct_layout.ts";
import type { StructCursor, Type } from "./type.ts";

type Fields = Record<string, unknown>;

/** A member of a struct that has a JavaScript value, and its recipe. */
export interface ValueMember extends Member {
  readonly recipe: Recipe<unknown>;
}

// Members of the types that `struct` made. Another type may have the kind "struct" without the properties of one.
const structs = new WeakMap<Type<unknown>, readonly ValueMember[]>();
const cursorRecipes = new WeakMap<Type<unknown>, Recipe<StructCursor<unknown>>>();

/** Type of a cursor's event, and the function that copies the event. */
interface Origin {
  readonly type: Type<unknown>;
  copy(): unknown;
}

const origins = new WeakMap<object, Origin>();

/** Registers the members of a struct, for its cursors and copies. */
export function setValueMembers(type: Type<unknown>, members: readonly ValueMember[]): void {
  structs.set(type, members);
}

/** Creates a cursor for a struct that {@link setValueMembers} registered. Reading its event throws until the cursor is moved. */
export function makeCursor<T>(type: Type<T>): StructCursor<T> {
  let recipe = cursorRecipes.get(type);
  if (recipe === undefined) {
    recipe = cursorRecipe(type);
    cursorRecipes.set(type, recipe);
  }
  // The entry of a Type<T> makes cursors of T, which the type of a WeakMap cannot express.
  return compileRead(recipe as Recipe<StructCursor<T>>)(released(), 0);
}

/**
 * Copies an event or a plain object to a new plain object. Nested structs are copied, too.
 *
 * @throws {TypeError} if the value is not an object, or lacks a field.
 * @throws {Error} if the value is a released event.
 */
export function copyStruct<T>(type: Type<T>, value: unknown): T {
  const origin = typeof value === "object" && value !== null ? origins.get(value) : undefined;
  return (origin?.type === type ? origin.copy() : copyFields(type, value, "")) as T;
}

function copyFields(type: Type<unknown>, value: unknown, path: string): Fields {
  if (typeof value !== "object" || value === null) {
    return refuseType(path, `an object (${type.name})`, value);
  }
  // Assigning to the key "__proto__" would set the prototype.
  return Object.fromEntries(
    valueMembersOf(type).map((member) => {
      const field = (value as Fields)[member.name];
      const fieldPath = memberPath(path, member.name);
      // undefined can be a value of a custom type.
      if (field === undefined && !(member.name in value)) {
        throw new TypeError(
          `missing field ${JSON.stringify(fieldPath)}: expected ${member.type.name}`,
        );
      }
      return [
        member.name,
        structs.has(member.type) ? copyFields(member.type, field, fieldPath) : field,
      ] as const;
    }),
  );
}

function valueMembersOf(type: Type<unknown>): readonly ValueMember[] {
  return structs.get(type) as readonly ValueMember[];
}

/**
 * Returns a recipe whose value is a cursor. The compiled function's parameters, `view` and `offset`, are
 * the cursor's position. All getters of the event and its nested events read these variables, so moving
 * the cursor takes two assignments.
 *
 * The getters are properties of the event itself, so that its fields can be listed and spread. An optimized getter takes as
 * long as a call of a DataView method. Getters of a prototype would be faster only where one callback receives events of
 * several cursors: there, reading three fields would take 6 ns instead of 8.
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
  throw new TypeError("a cursor cannot be encoded: it only reads memory");
}

/** Adds statements that make an event, and returns the name of its variable. */
function emitEvent(source: Source, type: Type<unknown>, place: Place): string {
  const within = new Map<ValueMember, string>();
  for (const member of valueMembersOf(type)) {
    if (!structs.has(member.type)) continue;
    within.set(member, emitEvent(source, member.type, place.plus(member.offset)));
  }
  const event = source.variable("event");
  source.line(`const ${event} = ${source.capture(finishEvent)}({`);
  for (const member of valueMembersOf(type)) {
    const name = JSON.stringify(member.name);
    const inner = within.get(member);
    if (inner !== undefined) {
      // In an object literal the key __proto__ would set the prototype, unless it is computed.
      source.line(`[${name}]: ${inner},`);
      continue;
    }
    source.line(`get ${name}() {`);
    source.line(`return ${emitNestedRead(source, member.recipe, place.plus(member.offset))}; },`);
  }
  // Calling the method compiles it only if an event is copied, which is rare.
  const own = source.capture(type);
  source.line(`}, ${own}, () => ${own}.read(view, ${place}));`);
  return event;
}

/** Makes an event without generated code. */
function makeEvent(
  type: Type<unknown>,
  place: { view: DataView; offset: number },
  start: number,
): Fields {
  const event: Fields = {};
  for (const { name, type: member, offset, recipe } of valueMembersOf(type)) {
    const at = start + offset;
    const descriptor: PropertyDescriptor = structs.has(member)
      ? { value: makeEvent(member, place, at) }
      : { get: () => recipe.read(checkPlace(place.view), place.offset + at) };
    Object.defineProperty(event, name, { ...descriptor, enumerable: true });
  }
  return finishEvent(event, type, () => type.read(checkPlace(place.view), place.offset + start));
}

/** Registers an event for copying, makes `console.log` show its values, and freezes it. */
function finishEvent(event: Fields, type: Type<unknown>, copy: () => unknown): Fields {
  origins.set(event, { type, copy });
  const show = (): unknown => {
    try {
      return copy();
    } catch (error) {
      return `[${error instanceof Error ? error.message : error}]`;
    }
  };
  // The property is not enumerable, so that spreading or comparing an event uses only its fields.
  Object.defineProperty(event, inspectCustom, { value: show });
  return Object.freeze(event);
}

let releasedView: DataView | undefined;

/**
 * Returns the view of released events. Each of its methods throws, so that getters need no check. An exception does not make the
 * compiled getters slower.
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
    "this event was released: its bytes may belong to another event; copy it with type.copy(event) while it is valid",
  );
}

/**
 * Returns the view, or throws if it is that of released events. Only functions that call the methods of `DataView.prototype`
 * need this check, because they bypass the view's own methods, which throw.
 */
function checkPlace(view: DataView): DataView {
  if (view === releasedView) refuseReleased();
  return view;
}
