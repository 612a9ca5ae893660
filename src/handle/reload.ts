/**
 * @module Reloads by `bun --hot`. When a file changes, Bun evaluates all modules again in the same process, including this library.
 * The old code is not notified: without this module its programs would stay attached, and its consumers would continue to read.
 */

/**
 * The functions that dispose of the open objects of all evaluations of the script, by object; `undefined` without `bun --hot`.
 */
export const reloadDisposers: Map<object, () => void> | undefined =
  /*@__PURE__*/ disposeAfterReload();

/**
 * Disposes of the objects that earlier evaluations left open, in reverse order, so that programs are detached before their ring
 * is closed.
 */
function disposeAfterReload(): Map<object, () => void> | undefined {
  if (!process.execArgv.includes("--hot")) return undefined;
  const all = globalThis as { [key: symbol]: Map<object, () => void> | undefined };
  const known = (all[Symbol.for("bun-bpf reload")] ??= new Map());
  for (const [object, disposeOf] of [...known].reverse()) {
    try {
      disposeOf();
      known.delete(object);
    } catch (error) {
      // An asynchronous operation still uses the memory of the object. The object stays in the map for the next reload.
      reportError(error);
    }
  }
  return known;
}

/**
 * Keeps a map, program, link or subscription open when `bun --hot` reloads the script, and returns it.
 *
 * `bun --hot` evaluates a script again in the same process when a file changes. This library then disposes of everything that
 * the old code has opened, as at the end of the process: subscriptions and iterations end, links are detached unless they are
 * pinned, and all objects are disposed of. To keep an object open, pass it to this function and store it on `globalThis`.
 * Consumers of a kept ring end nevertheless, so that the new code can consume it. A subscription continues only if it is kept as
 * well.
 *
 * Without `bun --hot` this function only returns its argument. Bun does not reload a script whose top level still awaits
 * something, such as a `for await` loop over a ring: put the loop into a function. If the new code does not import this library,
 * objects of the old code stay open until the process ends, because no code of the library runs then.
 *
 * @example
 * ```ts
 * import { HashMap, keepAcrossReloads, t } from "bun-bpf";
 * const create = () => new HashMap({ key: t.u32, value: t.u64, maxEntries: 1024 });
 * const kept = globalThis as { counts?: ReturnType<typeof create> };
 * const counts = (kept.counts ??= keepAcrossReloads(create()));
 * console.log(counts.count()); // 0
 * ```
 */
export function keepAcrossReloads<T extends Reloadable>(object: T): T {
  reloadDisposers?.delete(object);
  return object;
}

/** An object that {@link keepAcrossReloads} can keep: a map, program or link, a subscription, or a BPF file system. */
export type Reloadable = Disposable &
  ({ readonly id: number } | { readonly active: boolean } | { readonly path: string });
