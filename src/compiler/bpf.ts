/** @module `bpf`: compiles, loads and attaches TypeScript functions. */

import { describe } from "../check/describe.ts";
import type { Link } from "../link/link.ts";
import type { AnyType } from "../maps/map_options.ts";
import { Program } from "../program/program.ts";
import type { ProgramSpec } from "../program/program_spec.ts";
import type { Infer } from "../types/type.ts";
import { callSites } from "./source/call_site.ts";
import { type AnyKernelFunction, ScopeMaps } from "./language/translate.ts";
import type { AttachablePlace, AttachEntry, Entry, Place, Programs } from "./kernel_types.ts";
import { compileFunction } from "./pipeline.ts";
import type { Scope } from "./scope_types.ts";
import { BpfFunction, BpfGlobal } from "./language/shared_values.ts";
import { Sources } from "./source/source.ts";
import { runningTarget } from "./machine/target.ts";

type AnyScope = Readonly<Record<string, unknown>>;

/** A function, or a function with the options of attaching it. */
type AnyEntry = AnyKernelFunction | { readonly on: object; readonly run: AnyKernelFunction };
type AnyEntries = Readonly<Record<string, AnyEntry>>;

interface Compiled {
  readonly place: string;
  readonly spec: ProgramSpec;
  readonly on: object | undefined;
}

/** Compiles all functions. @throws {CompileError} if one is not in the language. */
function compileAll(
  scope: AnyScope,
  entries: AnyEntries,
  caller: (...args: never[]) => unknown,
): { compiled: Compiled[]; maps: ScopeMaps } {
  const sources = new Sources(callSites(caller));
  const target = runningTarget();
  const maps = new ScopeMaps();
  const compiled = Object.entries(entries).map(([place, entry]) => {
    const fn = typeof entry === "function" ? entry : entry?.run;
    if (typeof fn !== "function") {
      throw new TypeError(`${place}: expected a function, or { on, run }, got ${describe(entry)}`);
    }
    const on = typeof entry === "function" ? undefined : entry.on;
    const spec = compileFunction({
      sources,
      fn,
      place,
      section: place,
      scope,
      maps,
      target,
      probe: place,
    });
    return { place, spec, on };
  });
  return { compiled, maps };
}

/** Loads all functions. Its name differs from that of the caller, which {@link callSites} finds by its name. */
function loadAll(scope: AnyScope, entries: AnyEntries, caller: (...args: never[]) => unknown) {
  const { compiled, maps } = compileAll(scope, entries, caller);
  using opened = new DisposableStack();
  const programs = compiled.map(({ place, spec, on }) => ({
    place,
    on,
    program: opened.use(new Program({ ...spec, maps: Object.fromEntries(maps.maps) as never })),
  }));
  return { programs, opened: opened.move() };
}

/** Links of programs that were attached together. Disposing of it detaches all. */
export class Attached implements Disposable {
  /** The links, in the order of the places. */
  readonly links: readonly Link[];
  readonly #opened: DisposableStack;

  /** @internal */
  constructor(links: readonly Link[], opened: DisposableStack) {
    this.links = links;
    this.#opened = opened;
  }

  /** Detaches and closes all programs. Maps of the scope stay open. */
  [Symbol.dispose](): void {
    this.#opened.dispose();
  }
}

/** Functions that compile TypeScript functions for the kernel. */
export interface Bpf {
  /**
   * Compiles functions, loads them, and attaches each to the place that its key names: all of them, or none if one fails.
   *
   * A function sees its parameters, its local variables, and names of the language: not those of its module. What it needs is
   * in the scope, its second parameter: maps, ring buffers, `bpf.global()` variables, `bpf.fn()` functions, `t` types and
   * constants, and the kernel library `k`. Code that compiles means the same in the kernel as in JavaScript.
   *
   * @param scope what the functions can use
   * @param programs a function for each place, or `{ on, run }` with the options of {@link Program.attach}
   *
   * @throws {CompileError} if a function is not in the language; the message points into the source.
   * @throws {VerifierError} if the verifier rejects a program.
   * @throws {BpfError} `EPERM` if a capability is missing, and other errors if this kernel lacks a place.
   * @throws {TypeError} if a place is misspelt, or kernel code cannot use a member of the scope.
   *
   * @example
   * ```ts
   * import { bpf, BpfError, HashMap, t } from "bun-bpf";
   * try {
   *   using counts = new HashMap({ key: t.cstring(16), value: t.u64, maxEntries: 1024 });
   *   using probes = bpf.attach({ counts }, {
   *     "tp/syscalls/sys_enter_getpid"(ctx, { counts }) {
   *       counts.increment(ctx.comm);
   *     },
   *   });
   *   console.log(probes.links.length); // 1
   * } catch (error) {
   *   if (!(error instanceof BpfError)) throw error;
   *   console.error(error.message);
   * }
   * ```
   *
   * Requires Linux 5.10.
   */
  attach<Sc extends Readonly<Record<string, unknown>>, P extends AttachablePlace>(
    scope: Sc,
    programs: { readonly [K in P]: AttachEntry<K, Sc> },
  ): Attached;

  /**
   * Compiles functions and loads them. Unlike {@link attach}, it leaves attaching to the caller.
   *
   * @param scope what the functions can use
   * @param programs a function for each place
   * @returns the programs by their keys. Disposing of it closes all.
   *
   * @throws {CompileError} if a function is not in the language; the message points into the source.
   * @throws {VerifierError} if the verifier rejects a program.
   * @throws {BpfError} `EPERM` if a capability is missing, and other errors if this kernel lacks a place.
   * @throws {TypeError} if a place is misspelt, or kernel code cannot use a member of the scope.
   *
   * @example
   * ```ts
   * import { bpf, BpfError } from "bun-bpf";
   * try {
   *   using programs = bpf.load({ least: 64 }, {
   *     xdp(ctx, { least }) {
   *       return ctx.packet.length < least ? "drop" : "pass";
   *     },
   *   });
   *   console.log(programs.xdp.testRun({ data: new Uint8Array(60) }).returnValue); // 1
   * } catch (error) {
   *   if (!(error instanceof BpfError)) throw error;
   *   console.error(error.message);
   * }
   * ```
   *
   * Requires Linux 5.10.
   */
  load<Sc extends Readonly<Record<string, unknown>>, P extends Place>(
    scope: Sc,
    programs: { readonly [K in P]: Entry<K, Sc> },
  ): Programs<P>;

  /**
   * Compiles functions to specs of programs: plain data. It needs no privileges.
   *
   * @param scope what the functions can use
   * @param programs a function for each place
   * @returns the specs by their keys. Code refers to maps by their names in the scope.
   *
   * @throws {CompileError} if a function is not in the language; the message points into the source.
   * @throws {BpfError} if this kernel lacks a place.
   * @throws {TypeError} if a place is misspelt, or kernel code cannot use a member of the scope.
   *
   * @example
   * ```ts
   * import { bpf } from "bun-bpf";
   * const { socket } = bpf.compile({ snap: 96 }, {
   *   socket: (_ctx, { snap }) => snap,
   * });
   * console.log(socket.section); // "socket"
   * ```
   *
   * Requires Linux 5.10.
   */
  compile<Sc extends Readonly<Record<string, unknown>>, P extends Place>(
    scope: Sc,
    programs: { readonly [K in P]: Entry<K, Sc> },
  ): { readonly [K in P]: ProgramSpec };

  /**
   * Makes a function with a scope of its own, which other functions call when it is in their scope.
   *
   * @param scope what the function can use
   * @param fn the function. Its first parameter is the scope; callers give the others.
   *
   * @example
   * ```ts
   * import { bpf } from "bun-bpf";
   * const lowest = bpf.fn({ least: 1 }, ({ least }, size: number) => Math.max(size, least));
   * const { socket } = bpf.compile({ lowest }, {
   *   socket: (ctx, { lowest }) => lowest(ctx.cpu),
   * });
   * console.log(socket.section); // "socket"
   * ```
   *
   * Requires Linux 5.10.
   */
  fn<Sc extends Readonly<Record<string, unknown>>, A extends unknown[], R>(
    scope: Sc,
    fn: (scope: Scope<Sc>, ...args: A) => R,
  ): BpfFunction<A, R>;

  /**
   * Makes a variable that kernel code and this process share. Both read and write its `value`; kernel code can do it
   * atomically.
   *
   * @param type the type of the variable
   * @param initial its first value
   *
   * @throws {BpfError} EPERM if CAP_BPF is missing.
   * @throws {TypeError | RangeError} if the value does not fit the type.
   *
   * @example
   * ```ts
   * import { bpf, BpfError, t } from "bun-bpf";
   * try {
   *   using limit = bpf.global(t.u32, 10);
   *   limit.value = 20;
   *   console.log(limit.value); // 20
   * } catch (error) {
   *   if (!(error instanceof BpfError)) throw error;
   *   console.error(error.message);
   * }
   * ```
   *
   * Requires Linux 5.10.
   */
  global<T extends AnyType>(type: T, initial: Infer<T>): BpfGlobal<T>;
}

/**
 * Compiles TypeScript functions for the kernel, loads and attaches them. See {@link Bpf.attach}.
 *
 * @example
 * ```ts
 * import { bpf } from "bun-bpf";
 * const { socket } = bpf.compile({}, { socket: (ctx) => ctx.cpu });
 * console.log(socket.license); // "GPL"
 * ```
 *
 * Requires Linux 5.10.
 */
export const bpf: Bpf = {
  attach(scope, entries) {
    const { programs, opened } = loadAll(scope, entries as AnyEntries, bpf.attach);
    using stack = opened;
    const links = programs.map(({ program, on }) => {
      const attach = program.attach.bind(program) as (options?: object) => Link;
      return stack.use(on === undefined ? attach() : attach(on));
    });
    return new Attached(links, stack.move());
  },

  load<P extends Place>(scope: AnyScope, entries: object) {
    const { programs, opened } = loadAll(scope, entries as AnyEntries, bpf.load);
    return Object.assign(
      Object.fromEntries(programs.map(({ place, program }) => [place, program])),
      {
        [Symbol.dispose]: () => opened.dispose(),
      },
    ) as Programs<P>;
  },

  compile<P extends Place>(scope: AnyScope, entries: object) {
    const { compiled } = compileAll(scope, entries as AnyEntries, bpf.compile);
    return Object.fromEntries(compiled.map(({ place, spec }) => [place, spec])) as {
      readonly [K in P]: ProgramSpec;
    };
  },

  fn(scope, fn) {
    return new BpfFunction(scope, fn);
  },

  global(type, initial) {
    return new BpfGlobal(type, initial);
  },
};
