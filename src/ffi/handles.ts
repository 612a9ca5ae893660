/** @module The hook for a trace of the kernel objects that this thread holds: handle_registry.ts notes them, where it is asked to. */

/** What the owner of a kernel object says of it. */
export interface HandleDescription {
  readonly kind: "descriptor" | "mapping";
  /** Which of its kind it is: `descriptor 7`. */
  readonly place: string;
  /** Asked at the time of the report: some objects are opened first and named by the kernel then. */
  readonly what: () => string;
}

/** Where owners of kernel objects are noted. */
export interface HandleNotes {
  /** Notes that `owner` holds what it describes, opened by the caller. */
  add(owner: object, description: HandleDescription): void;
  /** Notes that `owner` holds it no more; what is not there is no error. */
  delete(owner: object): void;
}

/** The registry of this thread; without one, unless tracing is on, to ask for it is all that it costs. */
export const tracing: { registry: HandleNotes | undefined } = { registry: undefined };
