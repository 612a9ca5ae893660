import { describe, type InspectArguments, inspectCustom, show } from "../check/describe.ts";
import { suggest, suggestion } from "../check/names.ts";
import type { Capability } from "../ffi/capabilities.ts";
import { BpfError, errnoNumber, shortages } from "../ffi/error.ts";
import { isKernelSince, kernelConfig, kernelRelease, type KernelVersion } from "../ffi/kernel.ts";
import { explainPermission } from "../ffi/permission.ts";

/**
 * The result of the probe of a feature. `"refused"`: the kernel has the feature, or may have it, but does not let this
 * process use it, because a capability is missing or a rule of the machine forbids it.
 */
export type FeatureStatus = "available" | "missing" | "refused";

/**
 * The result of a probe: `"available"`, the name of the error that the kernel answered (`"EINVAL"`), or, in words for people, what
 * is missing although the kernel answered no error.
 */
export type ProbeAnswer = "available" | (string & {}) | { readonly missing: string };

/** The parts of a feature. */
export interface FeatureDefinition {
  /** The name for people: `"map type bloom_filter"`. */
  readonly name: string;
  /** The first kernel version that has it; `undefined` where no known version has it, and for helpers. */
  readonly since: KernelVersion | undefined;
  /** True where updates of earlier stable kernels brought it as well. */
  readonly isBackported?: boolean;
  /** Options of the kernel's build without which it is not there. */
  readonly config?: readonly string[] | undefined;
  /** Asks the kernel, by doing it. */
  readonly probe: () => ProbeAnswer;
  /** Capabilities that the probe needs. */
  readonly needs: readonly Capability[];
}

const refusals: ReadonlySet<string> = new Set(["EPERM", "EACCES"]);

/** Errors of an interrupted call, or of a lack of memory or descriptors: they say nothing about the feature. */
const transient: ReadonlySet<string> = new Set(["EAGAIN", "EINTR", ...shortages]);

/**
 * A feature that a kernel has or lacks.
 *
 * The first read of {@link available}, {@link status} or {@link reason} probes it, by using the feature and undoing that at
 * once. The result is kept. It does not depend on the kernel's version, because distributions add and remove features
 * without changing that.
 *
 * @example
 * ```ts
 * import { features } from "bun-bpf";
 * const bloomFilter = features.mapTypes.get("bloom_filter");
 * if (!bloomFilter.available) console.log(`${bloomFilter.name}: ${bloomFilter.reason}`);
 * ```
 */
export class Feature {
  readonly #definition: FeatureDefinition;
  #answer: ProbeAnswer | undefined;

  /** @internal The members of `features` make them. */
  constructor(definition: FeatureDefinition) {
    this.#definition = definition;
  }

  /** The name for people: `"map type bloom_filter"`. */
  get name(): string {
    return this.#definition.name;
  }

  /**
   * The first kernel version that has it: `"5.16"`. `undefined` where no known version has it, and for helpers, which came
   * at different times to the types of programs.
   */
  get since(): KernelVersion | undefined {
    return this.#definition.since;
  }

  /** True for a fix that updates of earlier stable kernels brought as well. */
  get isBackported(): boolean {
    return this.#definition.isBackported ?? false;
  }

  /** Options of the kernel's build that it depends on: `"CONFIG_XDP_SOCKETS"`. */
  get config(): readonly string[] {
    return this.#definition.config ?? [];
  }

  /** True where this process can use it on this kernel. */
  get available(): boolean {
    return this.status === "available";
  }

  /**
   * The result of the probe.
   *
   * @throws {Error} where the probe could not run, because descriptors or memory are missing: the next read probes again
   */
  get status(): FeatureStatus {
    this.#answer ??= this.#ask();
    if (this.#answer === "available") return "available";
    return typeof this.#answer === "string" && refusals.has(this.#answer) ? "refused" : "missing";
  }

  #ask(): ProbeAnswer {
    const answer = this.#definition.probe();
    if (typeof answer !== "string" || !transient.has(answer)) return answer;
    const errno = errnoNumber(answer);
    throw new BpfError({ errno, syscall: "a probe", doing: `find out about ${this.name}` });
  }

  /** The reason why it is not available, for people; `undefined` where it is. */
  get reason(): string | undefined {
    const { status } = this;
    if (status === "available") return undefined;
    // All of them are tried with maps or programs.
    if (status === "refused") return explainPermission(this.#definition.needs, true);
    const said = typeof this.#answer === "object" ? this.#answer.missing : undefined;
    if (this.since === undefined) return said ?? "no kernel that is known has it";
    if (!isKernelSince(this.since)) {
      const stable = this.isBackported ? " and stable kernels of its time" : "";
      return `it came with kernel ${this.since}${stable}, and this is ${kernelRelease()}`;
    }
    if (said !== undefined) return said;
    const off = this.config.filter((option) => kernelConfig()?.has(option) === false);
    if (off.length > 0) return `this kernel was built without ${off.join(" and ")}`;
    return `the kernel answers ${this.#answer}`;
  }

  /** @internal Shows its data in `console.log`, which does not probe it. */
  [inspectCustom](...inspection: InspectArguments): string {
    const { name, since } = this;
    const probed = this.#answer === undefined ? {} : { status: this.status };
    return show("Feature", { name, since, ...probed }, inspection);
  }

  /** The feature for messages: its name. */
  toString(): string {
    return this.name;
  }
}

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

  /** @internal Shows its data in `console.log`. */
  [inspectCustom](...inspection: InspectArguments): string {
    return show("FeatureGroup", { names: this.#names }, inspection);
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
    names.length > longestList
      ? (suggestion(wanted, names) ?? `there are ${names.length}`)
      : suggest(wanted, names);
  return new TypeError(`unknown ${what} ${describe(name)}: ${hint}`);
}
