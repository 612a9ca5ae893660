/** @module Patterns of names of kernel functions, and tracefs' list of the functions that ftrace, and so most programs, can probe. */

import { listOf } from "../check/arguments.ts";
import { BpfError } from "../ffi/error.ts";
import { existsSync, readFileSync } from "../ffi/files.ts";
import { isKernelSince } from "../ffi/kernel.ts";
import { DetachedMount } from "../ffi/mount.ts";
import { explainPermission } from "../ffi/permission.ts";
import { formatFunction, type FunctionName, listFunctions } from "../symbols/functions.ts";
import { checkTarget, type TargetForm } from "./attach_method.ts";
import { tracefsPaths } from "./tracepoint.ts";

/** Names of functions, or patterns of names: `*` stands for any characters, `?` for one. */
export type FunctionPatterns = string | readonly string[];

/** The form of a name or pattern. */
export const functionsForm: TargetForm = {
  example: "vfs_*",
  pattern: /^[^\s\0]+$/,
  toOptions: (functions) => ({ functions }),
};

/**
 * Returns the option `functions` as a list of names and patterns.
 *
 * @throws {TypeError | RangeError} if it is neither a string nor a list of strings, or the list is empty.
 */
export function patternList(functions: FunctionPatterns): string[] {
  const argument = "attach: functions";
  const isOne = typeof functions === "string";
  const list = isOne ? [functions] : listOf(functions, argument);
  if (list.length === 0) {
    throw new RangeError(`${argument}: expected at least one name, got an empty list`);
  }
  for (const [index, entry] of list.entries()) {
    checkTarget(isOne ? argument : `${argument}[${index}]`, functionsForm, entry);
  }
  return list;
}

/** The files with the list in tracefs: with addresses (kernel 6.5), and without. */
const listWithAddresses = "available_filter_functions_addrs";
const listOfNames = "available_filter_functions";

/** Functions that patterns select, in the order of the kernel's list. */
export interface SelectedFunctions {
  /** The names, `module:name` for functions of modules. */
  readonly names: readonly string[];
  /** The addresses; `undefined` on kernels before 6.5, where the names are different and stand for the functions. */
  readonly addresses: readonly bigint[] | undefined;
  /** The index of the pattern that selected each function: the first one that matches. */
  readonly patterns: readonly number[];
}

/** Returns true if an entry is a name of a function of the kernel or any module, not a pattern. */
export function isPlainName(entry: string): boolean {
  return !/[*?:]/.test(entry);
}

/**
 * Selects the functions that match patterns, and the first one for each plain name. Returns the reason if the list cannot be read.
 *
 * @param useAddresses false to select names even if the kernel lists addresses
 */
export function selectFunctions(
  patterns: readonly string[],
  useAddresses = true,
): SelectedFunctions | { readonly unknown: string } {
  const list = readList(useAddresses);
  if ("unknown" in list) return list;
  const matchers = patterns.map(matcherOf);
  // The kernel finds functions of modules by their names since Linux 6.2.
  const onlyKernel = !list.hasAddresses && !isKernelSince("6.2");
  const names: string[] = [];
  const addresses: bigint[] = [];
  const selectors: number[] = [];
  const seen = new Set<string>();
  const selected = new Set<string>();
  for (const line of list.text.split("\n")) {
    const start = list.hasAddresses ? line.indexOf(" ") + 1 : 0;
    const end = line.indexOf(" ", start);
    const name = end === -1 ? line.slice(start) : line.slice(start, end);
    // A place without a function, for example where the linker dropped a weak one.
    if (name === "" || name.startsWith("__ftrace_invalid_address__")) continue;
    const module = end === -1 ? undefined : line.slice(line.indexOf("[", end) + 1, -1);
    if (!list.hasAddresses) {
      // A name stands for the first function that has it, be it selected or not.
      if (seen.has(name) || (onlyKernel && module !== undefined)) continue;
      seen.add(name);
    }
    const selector = matchers.findIndex(
      (matches, index) =>
        matches({ name, module }) && !(selected.has(name) && isPlainName(patterns[index]!)),
    );
    if (selector === -1) continue;
    selected.add(name);
    names.push(formatFunction({ name, module }));
    selectors.push(selector);
    if (list.hasAddresses) addresses.push(BigInt(`0x${line.slice(0, start - 1)}`));
  }
  return { names, addresses: list.hasAddresses ? addresses : undefined, patterns: selectors };
}

/**
 * Returns the functions that match patterns and are not selected, because the kernel cannot probe them. They include each function
 * that shares its name with a selected one, but is not selected itself.
 */
export function listSkipped(patterns: readonly string[], selected: readonly string[]): string[] {
  const counts = new Map<string, number>();
  for (const name of selected) counts.set(name, (counts.get(name) ?? 0) + 1);
  return matchingFunctions(patterns).filter((name) => {
    const count = counts.get(name) ?? 0;
    counts.set(name, count - 1);
    return count <= 0;
  });
}

/** Returns the names of all functions that match patterns, also of those that the kernel cannot probe. */
export function matchingFunctions(
  patterns: readonly string[],
  functions: readonly FunctionName[] = listFunctions(),
): string[] {
  const matchers = patterns.map(matcherOf);
  return functions
    .filter((each) => !isPadding(each.name) && matchers.some((matches) => matches(each)))
    .map(formatFunction);
}

/** Returns true for a symbol of the padding before a function (CONFIG_CALL_PADDING, CONFIG_CFI). */
function isPadding(name: string): boolean {
  return name.startsWith("__pfx_") || name.startsWith("__cfi_");
}

type Matcher = (each: FunctionName) => boolean;

/** Returns a function that tests names: those of a module if the pattern has the form `module:name`, otherwise all. */
export function matcherOf(pattern: string): Matcher {
  const colon = pattern.indexOf(":");
  if (colon === -1) {
    const matchesName = globOf(pattern);
    return ({ name }) => matchesName(name);
  }
  const matchesModule = globOf(pattern.slice(0, colon));
  const matchesName = globOf(pattern.slice(colon + 1));
  return ({ name, module }) => module !== undefined && matchesModule(module) && matchesName(name);
}

function globOf(pattern: string): (text: string) => boolean {
  if (pattern === "*") return () => true;
  if (!/[*?]/.test(pattern)) return (text) => text === pattern;
  const escaped = pattern.replace(/[.+^${}()|[\]\\]/g, "\\$&");
  const expression = new RegExp(`^${escaped.replace(/\*+/g, ".*").replaceAll("?", ".")}$`, "s");
  return (text) => expression.test(text);
}

/**
 * Returns the names of the functions that ftrace can probe; `undefined` if the list cannot be read. It is read again on each call,
 * because modules come and go.
 */
export function traceableFunctions(): ReadonlySet<string> | undefined {
  const list = readList(false);
  // Without the list, the kernel itself refuses functions that cannot be traced.
  if ("unknown" in list) return undefined;
  // A line is a name, followed by the module in brackets.
  return new Set(Array.from(list.text.matchAll(/^\S+/gm), ([name]) => name));
}

/** The text of a list, and its form. */
interface FunctionList {
  readonly text: string;
  readonly hasAddresses: boolean;
}

/** Reads the list in tracefs, which is mounted for the call if necessary. Returns the reason if that is not possible. */
function readList(useAddresses: boolean): FunctionList | { readonly unknown: string } {
  try {
    for (const path of tracefsPaths) {
      if (existsSync(`${path}/${listOfNames}`)) return readListIn(path, useAddresses);
    }
    using mount = new DetachedMount("tracefs");
    return readListIn(mount.path, useAddresses);
  } catch (error) {
    if (error instanceof BpfError) return { unknown: error.message };
    throw error;
  }
}

/** @throws {BpfError} if the list cannot be read. */
function readListIn(tracefs: string, useAddresses: boolean): FunctionList {
  const files = useAddresses ? [listWithAddresses, listOfNames] : [listOfNames];
  const file = files.find((each) => existsSync(`${tracefs}/${each}`)) ?? listOfNames;
  try {
    const text = readFileSync(`${tracefs}/${file}`, "latin1");
    return { text, hasAddresses: file === listWithAddresses };
  } catch (error) {
    const { code = "", errno = 0 } = error as NodeJS.ErrnoException;
    throw new BpfError({
      errno: Math.abs(errno),
      syscall: "open",
      doing: `read ${listOfNames} in tracefs`,
      hint:
        code === "ENOENT"
          ? "This kernel was built without CONFIG_DYNAMIC_FTRACE"
          : code === "EACCES"
            ? "This user may not read tracefs: run as root (sudo -E)"
            : code === "EPERM"
              ? () => explainPermission(["CAP_SYS_ADMIN"])
              : undefined,
    });
  }
}
