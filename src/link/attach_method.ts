/** @module The interface of the ways to attach programs. Each way has a file in this folder. */

import { checkOptions } from "../check/arguments.ts";
import { describe } from "../check/describe.ts";
import type { AttachTypeName } from "../ffi/bpf_prog.ts";
import type { Capability } from "../ffi/capabilities.ts";
import type { KernelVersion } from "../ffi/kernel.ts";
import type { Link, LinkedProgram } from "./link.ts";

/** The arguments of {@link AttachMethod.attach}. */
export interface AttachRequest<Options extends object> {
  readonly program: LinkedProgram;
  /** The attach type of the program's section, if it has one. */
  readonly attachType: AttachTypeName | undefined;
  /** The part of the section after the first `/`, if it has one. */
  readonly target: string | undefined;
  /** The options, including those that the target of the section sets. */
  readonly options: Options;
}

/** The form of a target in the name of a section, the part after the first `/`. */
export interface TargetForm {
  /** An example, for messages: `"syscalls/sys_enter_openat"`. */
  readonly example: string;
  /** The pattern that all targets match. */
  readonly pattern: RegExp;
  /**
   * Converts a target to the options that it stands for: `"vfs_read+8"` to `{ function: "vfs_read", offset: 8 }`. Absent if
   * programs are loaded for their target, so that the section always has it and attaching takes no such options.
   */
  readonly toOptions?: (target: string) => Readonly<Record<string, unknown>>;
}

/** A way to attach programs. */
export interface AttachMethod<Options extends object = object> {
  /** The names of all options that `attach()` takes. The first one is the target, if a section can name it. */
  readonly options: readonly string[];
  /** The form of the target; absent if sections of this way have no target. */
  readonly target?: TargetForm;
  /**
   * Attaches a loaded program.
   *
   * @throws {BpfError} if the kernel refuses.
   * @throws {TypeError | RangeError} if an option is wrong.
   */
  attach(request: AttachRequest<Options>): Link;
}

/**
 * A place to which a probe attaches, where it disturbs no other process. It stands for an option of `attach()`.
 *
 * - `"cgroup"`: a new cgroup without processes, as the option `cgroup`
 * - `"netns"`: a new network namespace, as the option `netns`
 * - `"loopback"`: the loopback interface of a new network namespace, which this thread is in, as the option `interface`
 * - `"netkit"`: a new netkit interface in such a namespace, as the option `interface`
 * - `"own netns"`: such a namespace, without an option
 * - `"socket"`: a new UDP socket with the option SO_REUSEPORT, as the option `socket`
 * - `"socket map"`: an empty map of sockets, as the option `map`
 * - `"file"`: a file that no process executes, as the option `path`
 * - `"struct_ops map"`: a map with a program per function of a struct; it is attached by a link with the option `link`
 */
export type ProbePlace =
  | "cgroup"
  | "netns"
  | "loopback"
  | "netkit"
  | "own netns"
  | "socket"
  | "socket map"
  | "file"
  | "struct_ops map";

/** A way to attach, as `features` lists it: dependencies, and a description of the probe that attaches in this way. */
export interface AttachKindRow {
  /** The first kernel version that supports this way to attach. */
  readonly since: KernelVersion;
  /** Kernel build options that this way to attach needs. */
  readonly config?: readonly string[];
  /** Capabilities that the probe needs. */
  readonly needs: readonly Capability[];
  /** The section of the program that the probe attaches. */
  readonly section: string;
  /** The return value of the program. @default 0 */
  readonly returns?: number;
  /** The place to attach to. @default the target of the section */
  readonly place?: ProbePlace;
  /** Other options of `attach()`. */
  readonly options?: object;
  /** The operation on links that is probed. @default attaching */
  readonly operation?: "update" | "detach";
  /** True if the kernel always attaches the program, but calls it only while the BPF security module is active. */
  readonly needsSecurityModule?: boolean;
  /** True if EEXIST also shows support: a program in the initial network namespace excludes programs in other namespaces. */
  readonly isExclusive?: boolean;
}

/**
 * Checks the form of a target.
 *
 * @param argument the name of the checked argument in errors
 * @throws {TypeError} if the form is wrong.
 */
export function checkTarget(argument: string, form: TargetForm, target: unknown): void {
  if (typeof target === "string" && form.pattern.test(target)) return;
  throw new TypeError(
    `${argument}: expected a target of the form ${describe(form.example)}, got ${describe(target)}`,
  );
}

/**
 * Attaches a program in the way of its section.
 *
 * @param section the name and the parts of the section
 * @throws {TypeError} if an option is misspelt or missing, or stands for a target that the section names already.
 * @throws {TypeError | RangeError | BpfError} as {@link AttachMethod.attach}.
 */
export function attachBy(
  method: AttachMethod,
  section: { readonly name: string; readonly target: string | undefined },
  program: LinkedProgram,
  attachType: AttachTypeName | undefined,
  given: object,
): Link {
  const { name, target } = section;
  checkOptions("attach", given, method.options);
  const form = method.target;
  if (form?.toOptions === undefined) {
    return method.attach({ program, attachType, target, options: given });
  }
  if (target !== undefined) {
    const named = form.toOptions(target);
    for (const option of Object.keys(named)) {
      if (!Object.hasOwn(given, option)) continue;
      throw new TypeError(
        `attach: section "${name}" names the target already: expected no option ${JSON.stringify(option)}`,
      );
    }
    return method.attach({ program, attachType, target, options: { ...given, ...named } });
  }
  return method.attach({ program, attachType, target, options: given });
}

/** Options of ways to attach with a cookie. */
export interface CookieOptions {
  /**
   * A value that the helper `get_attach_cookie` returns to the program, to distinguish its attachments; 0 means none.
   *
   * @default 0n
   */
  readonly cookie?: bigint;
}

/** Checks a cookie, the value that the helper `get_attach_cookie` returns to the program. */
export function checkCookie(cookie: bigint | undefined): void {
  if (cookie === undefined) return;
  if (typeof cookie !== "bigint" || cookie !== BigInt.asUintN(64, cookie)) {
    throw new TypeError(
      `cookie: expected a bigint from 0n to 2n ** 64n - 1n, got ${describe(cookie)}`,
    );
  }
}

/** Options of ways to attach to several places with cookies. */
export interface CookiesOptions {
  /**
   * The value for each place, in their order, that the helper `get_attach_cookie` returns to the program; 0 means none.
   *
   * @default none
   */
  readonly cookies?: readonly bigint[];
}

/** Checks that there is one cookie for each place. @param place the noun for a place: `"offset"` */
export function checkCookies(
  cookies: readonly bigint[] | undefined,
  count: number,
  place: string,
): void {
  if (cookies === undefined) return;
  if (!Array.isArray(cookies)) {
    throw new TypeError(`cookies: expected an array of bigints, got ${describe(cookies)}`);
  }
  if (cookies.length !== count) {
    throw new RangeError(
      `cookies: expected one for each ${place}, ${count}, got ${cookies.length}`,
    );
  }
  for (const cookie of cookies) checkCookie(cookie);
}
