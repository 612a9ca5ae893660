import type { MapHandle } from "../../src/maps/create.ts";

/** Makes an object of a class for a map that is open, whatever its type: the library's own way, which no declaration shows. */
export function adopt<M>(Class: new (handle: never) => M, handle: MapHandle): M {
  return new Class(handle as never);
}
