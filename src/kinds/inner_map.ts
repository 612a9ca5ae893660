import type { MapSpec } from "../maps/spec.ts";
import { describe } from "../types/refusal.ts";
import { suggest } from "../types/suggestion.ts";
import type { Type } from "../types/type.ts";
import {
  type MapClass,
  simpleClasses,
  type SimpleMapName,
  type SimpleMapsByKind,
  type SimpleOptionsByKind,
  type BuildIdIn,
  type TypeIn,
} from "./classes.ts";

/** The one kind of which the kernel takes no maps inside another one. */
const neverInner = "prog-array";

/** The name of a kind that can be inside another map: `"hash"`, `"array"`, ... */
export type InnerMapName = Exclude<SimpleMapName, typeof neverInner>;

/** What the maps inside another one are like: the options of their class, and its kind as `type`. */
export type InnerMapOptions = {
  [N in InnerMapName]: { readonly type: N; readonly pin?: never } & Omit<
    SimpleOptionsByKind[N],
    "pin"
  >;
}[InnerMapName];

type KeyedName = "hash" | "lru-hash" | "percpu-hash" | "lru-percpu-hash" | "lpm-trie";
type ValueName =
  | "array"
  | "percpu-array"
  | "queue"
  | "stack"
  | "bloom-filter"
  | "sk-storage"
  | "inode-storage"
  | "task-storage"
  | "cgrp-storage";
type EventName = "ringbuf" | "user-ringbuf";

/** What it takes to open a map that is inside another one: its kind, and the types of its keys, values or events. */
export type InnerMapTypes =
  | { readonly type: KeyedName; readonly key: Type<unknown>; readonly value: Type<unknown> }
  | { readonly type: ValueName; readonly value: Type<unknown> }
  | { readonly type: EventName; readonly event: Type<unknown> }
  | { readonly type: "sockhash"; readonly key: Type<unknown> }
  | { readonly type: "stack-trace"; readonly buildId?: boolean }
  | {
      readonly type: Exclude<
        InnerMapName,
        KeyedName | ValueName | EventName | "sockhash" | "stack-trace"
      >;
    };

/** The class of a map inside another one. */
export type InnerMap<I extends InnerMapTypes> = SimpleMapsByKind<
  TypeIn<I, "key">,
  TypeIn<I, "value">,
  TypeIn<I, "event">,
  BuildIdIn<I>
>[I["type"]];

function classOf(type: InnerMapName): MapClass {
  const names = Object.keys(simpleClasses).filter((name) => name !== neverInner);
  if (names.includes(type)) return simpleClasses[type];
  throw new TypeError(
    `inner: type: expected a kind that can be inside another map, got ${describe(type)}: ${suggest(String(type), names)}`,
  );
}

/** Checks the options of an inner map and makes plain data of them. @throws {TypeError | RangeError} */
export function innerMapSpec(inner: InnerMapOptions): MapSpec {
  const { type, ...options } = checkInner(inner);
  if ("pin" in options) {
    throw new TypeError(
      "inner: pin: this says what maps inside are like, and makes none to be pinned",
    );
  }
  // Which options belong to which kind is the type's, InnerMapOptions, and is checked again at run time.
  return classOf(type).kind.spec(options as never);
}

/** Checks that the kind of an inner map was said. @throws {TypeError} */
export function checkInner<I extends InnerMapTypes>(inner: I): I {
  if (typeof inner !== "object" || inner === null) {
    throw new TypeError(
      `inner: expected an object such as { type: "hash", key, value, maxEntries }, got ${describe(inner)}`,
    );
  }
  classOf(inner.type);
  return inner;
}

/** What is left of options when only the types count. */
function typesOf(inner: InnerMapTypes): object {
  const names = ["key", "value", "event", "buildId"];
  return Object.fromEntries(Object.entries(inner).filter(([name]) => names.includes(name)));
}

/** Opens a map by its id, as what `inner` says. */
export function openInnerMap<I extends InnerMapTypes>(inner: I, id: number): InnerMap<I> {
  // The table and SimpleMapsByKind name the same classes, which TypeScript cannot tell.
  return classOf(inner.type).fromId(id, typesOf(inner) as never) as InnerMap<I>;
}
