/**
 * @module Reloads by `bun --hot`. It evaluates all modules anew in the same process, this library included, when a file changes.
 * The code before knows nothing of that: without this its programs would stay attached, and its consumers go on reading.
 */

/** The functions that end what this script has open, of all its evaluations, by the object; `undefined` without `bun --hot`. */
export const endings: Map<object, () => void> | undefined = /*@__PURE__*/ takeOver();

/** Ends what earlier evaluations of the script have left open, last first: programs are detached before a ring is closed. */
function takeOver(): Map<object, () => void> | undefined {
  if (!process.execArgv.includes("--hot")) return undefined;
  const all = globalThis as { [key: symbol]: Map<object, () => void> | undefined };
  const known = (all[Symbol.for("bun-bpf reload")] ??= new Map());
  for (const [object, end] of [...known].reverse()) {
    try {
      end();
      known.delete(object);
    } catch (error) {
      // Of memory that an asynchronous operation uses: it is tried again at the next reload.
      reportError(error);
    }
  }
  return known;
}

/**
 * Keeps a map, program, link or subscription open when `bun --hot` reloads the script, and returns it.
 *
 * `bun --hot` evaluates a script anew in the same process when a file changes. This library then ends what the script has
 * opened before, as the end of the process does: subscriptions and iterations end, links are detached unless they are pinned,
 * and all objects are disposed of. What is to go on is kept by this function, and found again on `globalThis`. Consumers of a
 * ring that is kept end all the same, so that the new code can consume it; to go on, a subscription is kept beside its ring.
 *
 * Without `bun --hot` it does nothing. Bun does not reload a script whose top level still awaits something, such as a
 * `for await` loop over a ring: put that into a function. Where the new code does not import this library any more, what was
 * open stays so until the process ends: nothing of the library runs then.
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
