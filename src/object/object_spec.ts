import type { MapSpec } from "../maps/map_spec.ts";
import type { ProgramSpec } from "../program/program_spec.ts";

/**
 * Maps, programs and global variables that belong together, as plain data. {@link BpfObject.load} loads it.
 */
export interface ObjectSpec {
  /** The maps, by the names by which programs refer to them. */
  readonly maps?: Readonly<Record<string, MapSpec>>;
  /** The programs, by the names that they have in {@link BpfObject.programs}. */
  readonly programs?: Readonly<Record<string, ProgramSpec>>;
  /** Sections of global variables, by the names by which programs refer to them as maps: `".data"`, `".rodata"`. */
  readonly variables?: Readonly<Record<string, VariablesSpec>>;
}

/**
 * A section of global variables, which becomes the only value of an array map.
 *
 * Requires Linux 5.5; 5.2 if it is read-only.
 */
export interface VariablesSpec {
  /** The initial values of the variables, as bytes. */
  readonly contents: Uint8Array;
  /** True if neither programs nor user space may change the variables. @default false */
  readonly isReadOnly?: boolean;
  /** The places of the variables in the section, by name. Loading ignores them. */
  readonly places?: Readonly<Record<string, VariablePlace>>;
}

/** The place of a variable in its section. */
export interface VariablePlace {
  /** Bytes from the start of the section. */
  readonly offset: number;
  /** Size in bytes. */
  readonly size: number;
}
