import { describe } from "../types/refusal.ts";
import { closest, suggest } from "../types/suggestion.ts";
import type { Feature } from "./feature.ts";

/**
 * Features of one sort, by name: made when one is asked for, and then kept with what the kernel answered.
 *
 * @example
 * ```ts
 * import { features } from "bun-bpf";
 * const missing = [...features.mapTypes].filter(({ available }) => !available);
 * for (const { name, reason } of missing) console.log(`${name}: ${reason}`);
 * ```
 */
export class FeatureGroup<Name extends string> {
  readonly #what: string;
  readonly #names: readonly Name[];
  readonly #make: (name: Name) => Feature;
  readonly #features = new Map<Name, Feature>();

  /** @param what a name stands for, in errors: `"kind of map"` */
  constructor(what: string, names: Iterable<Name>, make: (name: Name) => Feature) {
    this.#what = what;
    this.#names = [...names];
    this.#make = make;
  }

  /** The names, in the order in which people read them. */
  get names(): readonly Name[] {
    return this.#names;
  }

  /** The feature of a name. @throws {TypeError} for an unknown one */
  get(name: Name): Feature {
    let feature = this.#features.get(name);
    if (feature !== undefined) return feature;
    if (!this.#names.includes(name)) throw unknownName(this.#what, name, this.#names);
    feature = this.#make(name);
    this.#features.set(name, feature);
    return feature;
  }

  /** All of them. */
  *[Symbol.iterator](): Generator<Feature, undefined, undefined> {
    for (const name of this.#names) yield this.get(name);
    return undefined;
  }
}

/** Longer lists help nobody in an error. */
const longestList = 60;

/** The error for a name that is not among those that there are. */
export function unknownName(what: string, name: unknown, known: Iterable<string>): TypeError {
  const names = [...known];
  // Helpers are called so in C.
  const wanted = String(name).replace(/^bpf_/, "");
  const hint =
    closest(wanted, names) === undefined && names.length > longestList
      ? `there are ${names.length}`
      : suggest(wanted, names);
  return new TypeError(`unknown ${what} ${describe(name)}: ${hint}`);
}
