import type { MapSpec } from "../maps/map_spec.ts";
import type { ProgramSpec } from "../program/program_spec.ts";

/**
 * Maps, programs and global variables that belong together, as plain data. Compilers and readers of object files make it,
 * and {@link BpfObject.load} loads it.
 */
export interface ObjectSpec {
  /** The maps, by the names under which programs refer to them. */
  readonly maps?: Readonly<Record<string, MapSpec>>;
  readonly programs?: Readonly<Record<string, ProgramSpec>>;
  /** Sections of global variables, by the names under which programs refer to them as maps: `".data"`, `".rodata"`. */
  readonly variables?: Readonly<Record<string, VariablesSpec>>;
}

/** A section of global variables: the one value of an array map. */
export interface VariablesSpec {
  /** The initial values of the variables, as bytes. */
  readonly contents: Uint8Array;
  /** True for constants, which neither programs nor user space can change. @default false */
  readonly isReadOnly?: boolean;
  /** The place of each variable in the section, in bytes. */
  readonly places?: Readonly<Record<string, VariablePlace>>;
}

/** The place of a variable in its section, in bytes. */
export interface VariablePlace {
  readonly offset: number;
  readonly size: number;
}
