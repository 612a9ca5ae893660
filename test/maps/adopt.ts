import type { MapHandle } from "../../src/maps/create.ts";

/** Creates an object of a class for an open map of any type, by the handle that the declared constructor types hide. */
export function adopt<M>(Class: new (handle: never) => M, handle: MapHandle): M {
  return new Class(handle as never);
}
