import { type InspectArguments, inspectCustom, show } from "../check/describe.ts";
import type { HelperName } from "../asm/call.ts";
import { probeAttachKind } from "./attach_trials.ts";
import "./explain.ts";
import { Feature, FeatureGroup, unknownName } from "./feature.ts";
import { helperFeature, helperNames } from "./helpers.ts";
import { type InstructionSet, instructionSets, probeInstructionSet } from "./instruction_sets.ts";
import { mapTypeFeature, probeMapOperation } from "./map_types.ts";
import { type KernelSettings, readSettings } from "./settings.ts";
import { programTypeFeature } from "./trial_program.ts";
import type { ProgramTypeName } from "../ffi/bpf_prog.ts";
import { kernelConfig } from "../ffi/kernel.ts";
import { type AttachKind, type AttachKindRow, attachKinds } from "../link/attach_kinds.ts";
import { probeTrieFix, trieFixes } from "../maps/lpm_trie.ts";
import {
  type MapOperation,
  mapOperations,
  type MapTypeName,
  mapTypes,
  operationsOf,
} from "../maps/map_types.ts";
import { programTypes } from "../program/program_types.ts";

/** A fix of a kernel bug, by what it fixes: `"lpm_trie_update"`. */
export type Fix = keyof typeof trieFixes;

const programTypeNames = Object.keys(programTypes) as ProgramTypeName[];

/**
 * The features of the running kernel: see {@link features}, of which there is one.
 */
export class Features {
  readonly #operations = new Map<MapTypeName, FeatureGroup<MapOperation>>();
  readonly #helpers = new Map<ProgramTypeName, FeatureGroup<HelperName>>();

  /** Map types, by the kernel's names: `"lru_hash"`. */
  readonly mapTypes: FeatureGroup<MapTypeName> = groupOf("kind of map", mapTypes, mapTypeFeature);

  /** Types of programs, by the kernel's names: `"sched_cls"`. */
  readonly programTypes: FeatureGroup<ProgramTypeName> = new FeatureGroup(
    "type of program",
    programTypeNames,
    programTypeFeature,
  );

  /** Ways to attach programs, by libbpf's section names: `"kprobe.multi"`. Probes attach where they disturb nobody. */
  readonly attachKinds: FeatureGroup<AttachKind> = new FeatureGroup(
    "way to attach",
    Object.keys(attachKinds) as AttachKind[],
    (kind) => {
      const row: AttachKindRow = attachKinds[kind];
      const { since, config, needs } = row;
      const probe = () => probeAttachKind(row);
      return new Feature({ name: `attaching ${kind}`, since, config, needs, probe });
    },
  );

  /** Instructions that programs can have, and ways to use them: `"may_goto"`. */
  readonly instructions: FeatureGroup<InstructionSet> = groupOf(
    "kind of instructions",
    instructionSets,
    (facts, kind) =>
      new Feature({
        ...facts,
        name: `instructions ${kind}`,
        probe: () => probeInstructionSet(facts),
      }),
  );

  /** Fixes of kernel bugs that affect this library, by what they fix: `"lpm_trie_update"`. Earlier stable kernels may have them, too. */
  readonly fixes: FeatureGroup<Fix> = new FeatureGroup(
    "fix",
    Object.keys(trieFixes) as Fix[],
    (fix) =>
      new Feature({
        name: `fix ${fix}`,
        since: trieFixes[fix].since,
        isBackported: true,
        needs: ["CAP_BPF"],
        probe: () => probeTrieFix(fix),
      }),
  );

  /**
   * The operations of user space on maps of a type, on one element or on many at once. Probes try them on a small map.
   *
   * @throws {TypeError} for an unknown kind of map
   */
  mapOperations(type: MapTypeName): FeatureGroup<MapOperation> {
    let group = this.#operations.get(type);
    if (group === undefined) {
      const facts = factsOf(mapTypes, "kind of map", type);
      const { config, needs } = facts;
      const operations = operationsOf(facts);
      // The one element of struct_ops is registered with the kernel: that cannot be tried without doing it.
      const names = Object.keys(operations).length === 0 ? [] : mapOperations;
      group = new FeatureGroup("operation", names, (operation) => {
        const name = `${operation} of map type ${type}`;
        const since = operations[operation];
        const probe = () => probeMapOperation(facts, operation);
        return new Feature({ name, since, config, needs, probe });
      });
      this.#operations.set(type, group);
    }
    return group;
  }

  /**
   * The helper functions that programs of a type can call, by name. A probe loads a program that calls the helper. `since`
   * is `undefined`.
   *
   * @throws {TypeError} for an unknown type of program
   */
  helpers(type: ProgramTypeName): FeatureGroup<HelperName> {
    let group = this.#helpers.get(type);
    if (group === undefined) {
      if (!programTypeNames.includes(type)) {
        throw unknownName("type of program", type, programTypeNames);
      }
      // A program that replaces another one's function has that one's helpers.
      const names = type === "ext" ? [] : helperNames;
      group = new FeatureGroup("helper", names, (helper) => helperFeature(type, helper));
      this.#helpers.set(type, group);
    }
    return group;
  }

  /** The settings of the kernel, read anew each time. */
  get settings(): KernelSettings {
    return readSettings();
  }

  /** @internal Shows its groups in `console.log`. */
  [inspectCustom](...inspection: InspectArguments): string {
    const { mapTypes, programTypes, attachKinds, instructions, fixes } = this;
    const groups = { mapTypes, programTypes, attachKinds, instructions, fixes };
    return show("Features", groups, inspection);
  }

  /**
   * The value of an option that the kernel was built with, by its whole name: `"y"`, `"m"`, a number or a text; `undefined` where
   * it is off, or the configuration is not to be had (neither /proc/config.gz nor a file of the distribution).
   */
  config(option: string): string | undefined {
    return kernelConfig()?.get(option);
  }
}

/** A group with a feature for each of the facts. */
function groupOf<Name extends string, Facts>(
  what: string,
  all: ReadonlyMap<Name, Facts>,
  make: (facts: Facts, name: Name) => Feature,
): FeatureGroup<Name> {
  return new FeatureGroup(what, all.keys(), (name) => make(factsOf(all, what, name), name));
}

function factsOf<Name extends string, Facts>(
  all: ReadonlyMap<Name, Facts>,
  what: string,
  name: Name,
): Facts {
  const facts = all.get(name);
  if (facts === undefined) throw unknownName(what, name, all.keys());
  return facts;
}

/**
 * The features and the settings of the running kernel.
 *
 * Probes run on first use, and their results are cached for the life of the process. Operations of the library do not probe
 * first: they try, and probe only to explain a refusal.
 *
 * Probes create maps and programs, and close them at once. They need the capabilities of what they try: without those a
 * feature is `"refused"`.
 *
 * @example
 * ```ts
 * import { features } from "bun-bpf";
 * const { available, since, reason } = features.mapTypes.get("user_ringbuf");
 * console.log(available ? "user ring buffers" : `no user ring buffers (since ${since}): ${reason}`);
 * console.log(features.mapOperations("hash").get("lookup_batch").available);
 * console.log(features.helpers("xdp").get("redirect_map").available);
 * console.log(features.settings.release);
 * ```
 */
export const features: Features = new Features();
