/** @module Functions of the kernel by name. Unlike `KernelSymbols` this works where the kernel hides addresses, too. */

import { suggestion } from "../check/names.ts";
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
  return listNames(/^[0-9a-f]+ [TtWw] ([^\s$]\S*)(?:\t\[(\S+)\])?$/gm);
}

/** Returns the names of all functions and variables, in the order of the kernel's table. */
export function listSymbols(): FunctionName[] {
  return listNames(/^[0-9a-f]+ \w ([^\s$]\S*)(?:\t\[(\S+)\])?$/gm);
}

function listNames(line: RegExp): FunctionName[] {
  const table = readFileSync(path, "latin1");
  return Array.from(table.matchAll(line), ([, name = "", module]) => ({ name, module }));
}

/** Formats the name of a function as the kernel does: `name`, or `module:name`. */
export function formatFunction({ name, module }: FunctionName): string {
  return module === undefined ? name : `${module}:${name}`;
}

/** Returns a suggestion for an unknown function: one with a similar name, or the place where functions are listed. */
export function suggestFunction(unknown: string, functions: readonly FunctionName[]): string {
  const nameOf = unknown.includes(":") ? formatFunction : ({ name }: FunctionName) => name;
  // There are more than 100,000 functions. Only names with the same first letter and about the same length are compared.
  const near = functions
    .map(nameOf)
    .filter((name) => name[0] === unknown[0] && Math.abs(name.length - unknown.length) <= 3);
  return suggestion(unknown, new Set(near)) ?? `${path} lists the functions`;
}
