/** @module Patterns of names of kernel functions, and the functions that the kernel lets be traced. */

import { listOf } from "../check/arguments.ts";
import { readFileSync } from "../ffi/files.ts";
import { DetachedMount } from "../ffi/mount.ts";
import { checkTarget, type TargetForm } from "./attach_method.ts";
import { tracefsPaths } from "./tracepoint.ts";

/** Names of functions, or patterns of names: `*` stands for any characters, `?` for one. */
export type FunctionPatterns = string | readonly string[];

/** The form of a name or pattern. */
export const functionsForm: TargetForm = {
  example: "vfs_*",
  pattern: /^[\w.*?]+$/,
  toOptions: (functions) => ({ functions }),
};

/**
 * Returns names and patterns as a list.
 *
 * @throws {TypeError | RangeError} if they are neither a string nor a list of strings, or the list is empty.
 */
export function patternList(argument: string, patterns: FunctionPatterns): readonly string[] {
  const list = typeof patterns === "string" ? [patterns] : listOf(patterns, argument);
  if (list.length === 0) {
    throw new RangeError(`${argument}: expected at least one name, got an empty list`);
  }
  for (const pattern of list) checkTarget(argument, functionsForm, pattern);
  return list;
}

/** Returns true if the name has `*` or `?`. */
export function isPattern(name: string): boolean {
  return /[*?]/.test(name);
}

/** Returns a regular expression that matches the whole names that a pattern matches. */
export function patternExpression(pattern: string): RegExp {
  const text = Array.from(pattern, (character) =>
    character === "*" ? ".*" : character === "?" ? "." : RegExp.escape(character),
  );
  return new RegExp(`^${text.join("")}$`);
}

/**
 * Returns the names of the functions that the kernel lets be traced by ftrace, from `available_filter_functions` of tracefs;
 * `undefined` where this process cannot read it. It reads the file again on each call, because modules come and go.
 */
export function traceableFunctions(): ReadonlySet<string> | undefined {
  const text = readTraceable();
  // A line is a name, followed by the module in brackets.
  if (text === undefined) return undefined;
  return new Set(Array.from(text.matchAll(/^\S+/gm), ([name]) => name));
}

function readTraceable(): string | undefined {
  for (const folder of tracefsPaths) {
    const text = readIn(folder);
    if (text !== undefined) return text;
  }
  try {
    using mount = new DetachedMount("tracefs");
    return readIn(mount.path);
  } catch {
    // Without CAP_SYS_ADMIN, or without tracefs, the kernel itself refuses functions that cannot be traced.
    return undefined;
  }
}

function readIn(tracefs: string): string | undefined {
  try {
    return readFileSync(`${tracefs}/available_filter_functions`, "latin1");
  } catch {
    return undefined;
  }
}
