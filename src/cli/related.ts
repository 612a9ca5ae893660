/** @module Other objects in the lines about one: by id, and what they are. */

import { visibleObject } from "../inspect/objects.ts";
import type { ProgramInfo } from "../program/info.ts";

/** A program: `12 exec_counter (tracing)`. */
export function namedProgram({ id, name, type }: ProgramInfo): string {
  return name === "" ? `${id} (${type})` : `${id} ${name} (${type})`;
}

/** A program by its id, or the id alone where it has gone or this process may not see it. */
export function programById(id: number): string {
  const info = visibleObject("prog", id);
  return info === undefined ? `${id}` : namedProgram(info);
}

/** A map by its id: as {@link programById}. */
export function mapById(id: number): string {
  const info = visibleObject("map", id);
  if (info === undefined) return `${id}`;
  return info.name === "" ? `${id} (${info.type})` : `${id} ${info.name} (${info.type})`;
}
