/** @module Functions of the kernel by name. Unlike `KernelSymbols` this works where the kernel hides addresses, too. */

import { readFileSync } from "../ffi/files.ts";
import { findNames, isFunction, readAddress, readNames } from "./kallsyms.ts";

/** The name of a function of the kernel. */
export interface FunctionName {
  readonly name: string;
  /** The module; `undefined` for the kernel image itself. */
  readonly module: string | undefined;
}

/** A function of the kernel. */
export interface KernelFunction extends FunctionName {
  /** The address; 0 if the kernel hides it from this process. */
  readonly address: bigint;
}

const path = "/proc/kallsyms";

/** Returns all functions with a name, in the order of the kernel's table. */
export function findFunctions(name: string): KernelFunction[] {
  const bytes = readFileSync(path);
  return Array.from(findNames(bytes, name))
    .filter((start) => isFunction(bytes, start))
    .map((start) => ({ ...readNames(bytes, start), address: readAddress(bytes, start) }));
}

/** Returns the names of all functions, in the order of the kernel's table. */
export function listFunctions(): FunctionName[] {
  const table = readFileSync(path, "latin1");
  return Array.from(
    table.matchAll(/^[0-9a-f]+ [TtWw] ([^\s$]\S*)(?:\t\[(\S+)\])?$/gm),
    ([, name = "", module]) => ({ name, module }),
  );
}

/** Formats the name of a function as the kernel does: `name`, or `module:name`. */
export function formatFunction({ name, module }: FunctionName): string {
  return module === undefined ? name : `${module}:${name}`;
}
