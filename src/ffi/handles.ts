/** @module The hook for tracing open descriptors and mappings. handle_registry.ts sets it when tracing is on. */

/** The description of an open descriptor or mapping. */
export interface HandleDescription {
  readonly kind: "descriptor" | "mapping";
  /** The descriptor or mapping itself: `descriptor 7`, or `mapping of 4096 bytes`. */
  readonly place: string;
  /** Returns the name of the object. It is called for a report, because some objects get their names after they are opened. */
  readonly what: () => string;
}

/** The part of the registry that owners of descriptors and mappings use. */
export interface HandleTracker {
  /** Adds an owner with the description of its descriptor or mapping, and with the stack of the caller. */
  add(owner: object, description: HandleDescription): void;
  /** Removes an owner; does nothing if it was not added. */
  delete(owner: object): void;
}

/** The registry of this thread; `undefined` unless tracing is on. */
export const tracing: { registry: HandleTracker | undefined } = { registry: undefined };
