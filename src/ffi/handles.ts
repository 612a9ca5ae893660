/** @module The hook for tracing the kernel objects that this thread holds. handle_registry.ts sets it when tracing is on. */

/** The description of a kernel object by its owner. */
export interface HandleDescription {
  readonly kind: "descriptor" | "mapping";
  /** The instance: `descriptor 7`. */
  readonly place: string;
  /** Called for the report: the kernel gives some objects their names after they are opened. */
  readonly what: () => string;
}

/** The registry of kernel objects and their owners. */
export interface HandleNotes {
  /** Notes that `owner` holds what it describes, opened by the caller. */
  add(owner: object, description: HandleDescription): void;
  /** Removes `owner`, if it is there. */
  delete(owner: object): void;
}

/** The registry of this thread; `undefined` unless tracing is on. */
export const tracing: { registry: HandleNotes | undefined } = { registry: undefined };
