import { describe, type InspectArguments, inspectCustom, show } from "../check/describe.ts";
import { suggest, suggestion } from "../check/names.ts";
import type { Capability } from "../ffi/capabilities.ts";
import { BpfError, errnoNumber, resourceErrors } from "../ffi/error.ts";
import { isKernelSince, kernelConfig, kernelRelease, type KernelVersion } from "../ffi/kernel.ts";
import { explainPermission } from "../ffi/permission.ts";

/**
 * The result of a feature's probe. `"refused"` means that the kernel has the feature, or may have it, but does not allow this
 * process to use it: a capability is missing, or a setting of the machine forbids it.
 */
export type FeatureStatus = "available" | "missing" | "refused";

/**
 * The result of a probe: `"available"`, the name of the error that the kernel returned (`"EINVAL"`), or a description of what
 * is missing if the kernel returned no error.
 */
export type ProbeAnswer = "available" | (string & {}) | { readonly missing: string };

/** The definition of a feature. */
export interface FeatureDefinition {
  /** The name for messages: `"map type bloom_filter"`. */
  readonly name: string;
  /** The first kernel version that has the feature; `undefined` if no known version has it, and for helpers. */
  readonly since: KernelVersion | undefined;
  /** True if updates of earlier stable kernels also added the feature. */
  readonly isBackported?: boolean;
  /** Kernel build options that the feature needs. */
  readonly config?: readonly string[] | undefined;
  /** Finds out if the kernel has the feature, by using it. */
  readonly probe: () => ProbeAnswer;
  /** Capabilities that the probe needs. */
  readonly needs: readonly Capability[];
}

const refusals: ReadonlySet<string> = new Set(["EPERM", "EACCES"]);

/** Errors of an interrupted call, or of a lack of memory or descriptors, which say nothing about the feature. */
const transient: ReadonlySet<string> = new Set(["EAGAIN", "EINTR", ...resourceErrors]);

/**
 * A feature that the kernel has or lacks.
 *
 * The first read of {@link available}, {@link status} or {@link reason} probes the feature: the probe uses the feature, and
 * undoes the effects at once. The result is cached. The result does not depend on the kernel's version number, because
 * distributions add and remove features without changing the number.
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

  /** @internal The members of `features` make features. */
  constructor(definition: FeatureDefinition) {
    this.#definition = definition;
  }

  /** The name for messages: `"map type bloom_filter"`. */
  get name(): string {
    return this.#definition.name;
  }

  /**
   * The first kernel version that has the feature: `"5.16"`. `undefined` if no known version has it, and for helpers, which
   * different program types got in different versions.
   */
  get since(): KernelVersion | undefined {
    return this.#definition.since;
  }

  /** True if updates of earlier stable kernels also added the feature. */
  get isBackported(): boolean {
    return this.#definition.isBackported ?? false;
  }

  /** Kernel build options that the feature needs: `"CONFIG_XDP_SOCKETS"`. */
  get config(): readonly string[] {
    return this.#definition.config ?? [];
  }

  /** True if this process can use the feature on this kernel. */
  get available(): boolean {
    return this.status === "available";
  }

  /**
   * The result of the probe.
   *
   * @throws {BpfError} if the probe failed for a lack of memory or descriptors; the next read probes again.
   */
  get status(): FeatureStatus {
    this.#answer ??= this.#runProbe();
    if (this.#answer === "available") return "available";
    return typeof this.#answer === "string" && refusals.has(this.#answer) ? "refused" : "missing";
  }

  #runProbe(): ProbeAnswer {
    const answer = this.#definition.probe();
    if (typeof answer !== "string" || !transient.has(answer)) return answer;
    const errno = errnoNumber(answer);
    throw new BpfError({ errno, syscall: "a probe", doing: `probe the ${this.name}` });
  }

  /** The reason why the feature is not available, as text; `undefined` if it is available. */
  get reason(): string | undefined {
    const { status } = this;
    if (status === "available") return undefined;
    // `locksMemory` is true, because all probes create maps or load programs.
    if (status === "refused") return explainPermission(this.#definition.needs, true);
    const missing = typeof this.#answer === "object" ? this.#answer.missing : undefined;
    if (this.since === undefined) return missing ?? "no known kernel version has it";
    if (!isKernelSince(this.since)) {
      const stable = this.isBackported ? " or an update of an earlier stable kernel" : "";
      return `it needs Linux ${this.since}${stable}, and this is ${kernelRelease()}`;
    }
    if (missing !== undefined) return missing;
    const off = this.config.filter((option) => kernelConfig()?.has(option) === false);
    if (off.length > 0) return `this kernel was built without ${off.join(" and ")}`;
    return `the kernel returns ${this.#answer}`;
  }

  /** @internal Shows the feature's data in `console.log`, without probing the feature. */
  [inspectCustom](...inspection: InspectArguments): string {
    const { name, since } = this;
    const probed = this.#answer === undefined ? {} : { status: this.status };
    return show("Feature", { name, since, ...probed }, inspection);
  }

  /** Returns the name of the feature. */
  toString(): string {
    return this.name;
  }
}

/**
 * A group of features by name. Features are made when they are read, and cached with the results of their probes.
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

  /** @param what the noun for a name in errors: `"map type"` */
  constructor(what: string, names: Iterable<Name>, make: (name: Name) => Feature) {
    this.#what = what;
    this.#names = [...names];
    this.#make = make;
  }

  /** The names of the features, in the order in which they are listed. */
  get names(): readonly Name[] {
    return this.#names;
  }

  /**
   * Returns a feature by its name.
   *
   * @throws {TypeError} if the name is unknown.
   */
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

  /** Iterates all features of the group. */
  *[Symbol.iterator](): Generator<Feature, undefined, undefined> {
    for (const name of this.#names) yield this.get(name);
    return undefined;
  }
}

/** Maximum number of names that an error lists. */
const maxListedNames = 60;

/** Makes the error for an unknown name, with a similar one or a list of the known ones. */
export function unknownName(what: string, name: unknown, known: Iterable<string>): TypeError {
  const names = [...known];
  // In C, names of helpers have this prefix.
  const wanted = String(name).replace(/^bpf_/, "");
  const hint =
    names.length > maxListedNames
      ? (suggestion(wanted, names) ?? `there are ${names.length}`)
      : suggest(wanted, names);
  return new TypeError(`unknown ${what} ${describe(name)}: ${hint}`);
}
