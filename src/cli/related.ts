/** @module Other objects in the lines about one: by id, and what they are. */

import { objectById } from "../inspect/objects.ts";
import { BpfError } from "../ffi/error.ts";
import type { ProgramInfo } from "../program/info.ts";

/** A program: `12 exec_counter (tracing)`. */
export function namedProgram({ id, name, type }: ProgramInfo): string {
  return name === "" ? `${id} (${type})` : `${id} ${name} (${type})`;
}

/** A program by its id, or the id alone where it has gone or this process may not see it. */
export function programById(id: number): string {
  const info = seen("prog", id);
  return info === undefined ? `${id}` : namedProgram(info);
}

/** A map by its id: as {@link programById}. */
export function mapById(id: number): string {
  const info = seen("map", id);
  if (info === undefined) return `${id}`;
  return info.name === "" ? `${id} (${info.type})` : `${id} ${info.name} (${info.type})`;
}

function seen<Kind extends "map" | "prog">(kind: Kind, id: number) {
  try {
    return objectById(kind, id);
  } catch (error) {
    if (error instanceof BpfError && error.code === "EPERM") return undefined;
    throw error;
  }
}
