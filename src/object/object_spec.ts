import type { MapSpec } from "../maps/map_spec.ts";
import type { ProgramSpec } from "../program/program_spec.ts";

/**
 * Maps, programs and global variables that belong together, as plain data: what compilers and object files give, and what
 * {@link BpfObject.load} takes.
 */
export interface ObjectSpec {
  /** By the names that programs refer to them by. */
  readonly maps?: Readonly<Record<string, MapSpec>>;
  readonly programs?: Readonly<Record<string, ProgramSpec>>;
  /** Sections of global variables, by the names that programs refer to them by, as to maps: `".data"`, `".rodata"`. */
  readonly variables?: Readonly<Record<string, VariablesSpec>>;
}

/** A section of global variables: the one value of an array map. */
export interface VariablesSpec {
  /** The values that the variables begin with. */
  readonly contents: Uint8Array;
  /** Constants: neither programs nor user space change them. @default false */
  readonly isReadOnly?: boolean;
  /** The place of each variable in the section, in bytes. */
  readonly places?: Readonly<Record<string, VariablePlace>>;
}

/** The place of a variable in its section, in bytes. */
export interface VariablePlace {
  readonly offset: number;
  readonly size: number;
}
