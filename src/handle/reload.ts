/**
 * @module Reloads by `bun --hot`. When a file changes, it evaluates all modules again in the same process, including this library.
 * The old code is not notified: without this module its programs would stay attached, and its consumers would go on reading.
 */

/** The functions that end the open objects of all evaluations of the script, by object; `undefined` without `bun --hot`. */
export const endings: Map<object, () => void> | undefined = /*@__PURE__*/ takeOver();

/** Ends the objects that earlier evaluations left open, last first, so that programs are detached before their ring is closed. */
function takeOver(): Map<object, () => void> | undefined {
  if (!process.execArgv.includes("--hot")) return undefined;
  const all = globalThis as { [key: symbol]: Map<object, () => void> | undefined };
  const known = (all[Symbol.for("bun-bpf reload")] ??= new Map());
  for (const [object, end] of [...known].reverse()) {
    try {
      end();
      known.delete(object);
    } catch (error) {
      // An asynchronous operation uses its memory: the next reload tries again.
      reportError(error);
    }
  }
  return known;
}

/**
 * Keeps a map, program, link or subscription open when `bun --hot` reloads the script, and returns it.
 *
 * `bun --hot` evaluates a script again in the same process when a file changes. This library then ends all that the old code has
 * opened, as the end of the process does: subscriptions and iterations end, links are detached unless they are pinned, and all
 * objects are disposed of. An object that should stay open is passed to this function, and stored on `globalThis`. Consumers of a
 * kept ring end nevertheless, so that the new code can consume it; a subscription goes on only if it is kept as well.
 *
 * Without `bun --hot` it does nothing. Bun does not reload a script whose top level still awaits something, such as a
 * `for await` loop over a ring: put the loop into a function. If the new code does not import this library any more, what was
 * open stays open until the process ends, because nothing of the library runs then.
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
  endings?.delete(object);
  return object;
}

/** An object that {@link keepAcrossReloads} keeps: a map, program or link, a subscription, or a file system. */
export type Reloadable = Disposable &
  ({ readonly id: number } | { readonly active: boolean } | { readonly path: string });
