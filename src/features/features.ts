import { type InspectArguments, inspectCustom, show } from "../check/describe.ts";
import type { HelperName } from "../asm/call.ts";
import { probeAttachKind } from "./attach_probes.ts";
import "./explain.ts";
import { Feature, FeatureGroup, unknownName } from "./feature.ts";
import { helperFeature, helperNames } from "./helpers.ts";
import { type InstructionSet, instructionSets, probeInstructionSet } from "./instruction_sets.ts";
import { mapTypeFeature, probeMapOperation } from "./map_types.ts";
import { type KernelSettings, readSettings } from "./settings.ts";
import { programTypeFeature } from "./probe_program.ts";
import type { ProgramTypeName } from "../ffi/bpf_prog.ts";
import { kernelConfig } from "../ffi/kernel.ts";
import { type AttachKind, attachKinds } from "../link/attach_kinds.ts";
import { probeTrieFix, trieFixes } from "../maps/lpm_trie.ts";
import {
  type MapOperation,
  mapOperations,
  type MapTypeName,
  mapTypes,
  operationsOf,
} from "../maps/map_types.ts";
import { programTypes } from "../program/program_types.ts";

/** A fix of a kernel bug, named after what it fixes: `"lpm_trie_update"`. */
export type Fix = keyof typeof trieFixes;

const programTypeNames = Object.keys(programTypes) as ProgramTypeName[];

/** The features of the running kernel. {@link features} is the only instance. */
export class Features {
  readonly #operations = new Map<MapTypeName, FeatureGroup<MapOperation>>();
  readonly #helpers = new Map<ProgramTypeName, FeatureGroup<HelperName>>();

  /** Map types by the kernel's names: `"lru_hash"`. A probe creates a map of the type. */
  readonly mapTypes: FeatureGroup<MapTypeName> = groupOf("map type", mapTypes, mapTypeFeature);

  /** Program types by the kernel's names: `"sched_cls"`. A probe loads a program of the type. */
  readonly programTypes: FeatureGroup<ProgramTypeName> = new FeatureGroup(
    "program type",
    programTypeNames,
    programTypeFeature,
  );

  /** Ways to attach programs, by libbpf's section names: `"kprobe.multi"`. Probes attach where they disturb no other process. */
  readonly attachKinds: FeatureGroup<AttachKind> = new FeatureGroup(
    "way to attach",
    Object.keys(attachKinds) as AttachKind[],
    (kind) => {
      const row: { readonly config?: readonly string[] } & (typeof attachKinds)[AttachKind] =
        attachKinds[kind];
      const { since, config, needs } = row;
      const probe = () => probeAttachKind(row);
      return new Feature({ name: `way to attach ${kind}`, since, config, needs, probe });
    },
  );

  /** Groups of instructions, and ways to use them, by name: `"may_goto"`. A probe loads a program that uses them. */
  readonly instructions: FeatureGroup<InstructionSet> = groupOf(
    "instruction set",
    instructionSets,
    (row, kind) =>
      new Feature({
        ...row,
        name: `instructions ${kind}`,
        probe: () => probeInstructionSet(row),
      }),
  );

  /** Fixes of kernel bugs that affect this library, by what they fix: `"lpm_trie_update"`. */
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
   * Returns the operations of user space on maps of a type, on single elements and in batches. A probe runs the operation on a
   * small map. The group of `struct_ops` is empty, because an update of such a map registers functions in the kernel.
   *
   * @throws {TypeError} if the map type is unknown.
   */
  mapOperations(type: MapTypeName): FeatureGroup<MapOperation> {
    let group = this.#operations.get(type);
    if (group === undefined) {
      const row = rowOf(mapTypes, "map type", type);
      const { config, needs } = row;
      const operations = operationsOf(row);
      // An update of a struct_ops map registers its element with the kernel, so a probe would have effects.
      const names = Object.keys(operations).length === 0 ? [] : mapOperations;
      group = new FeatureGroup("operation", names, (operation) => {
        const name = `${operation} of map type ${type}`;
        const since = operations[operation];
        const probe = () => probeMapOperation(row, operation);
        return new Feature({ name, since, config, needs, probe });
      });
      this.#operations.set(type, group);
    }
    return group;
  }

  /**
   * Returns the helper functions for programs of a type, by name. A probe loads a program that calls the helper. Their `since`
   * is `undefined`. The group of `ext` is empty: these programs have the helpers of the program whose function they replace.
   *
   * @throws {TypeError} if the program type is unknown.
   */
  helpers(type: ProgramTypeName): FeatureGroup<HelperName> {
    let group = this.#helpers.get(type);
    if (group === undefined) {
      if (!programTypeNames.includes(type)) {
        throw unknownName("program type", type, programTypeNames);
      }
      // An ext program has the helpers of the program whose function it replaces.
      const names = type === "ext" ? [] : helperNames;
      group = new FeatureGroup("helper", names, (helper) => helperFeature(type, helper));
      this.#helpers.set(type, group);
    }
    return group;
  }

  /** The settings of the kernel that concern BPF. Each read of this property reads them from the kernel. */
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
   * Returns the value of an option of the kernel's build: `"y"`, `"m"`, a number or a text. Returns `undefined` if the option is
   * not set, or the configuration is neither in /proc/config.gz nor in a file of the distribution.
   *
   * @param option the full name: `"CONFIG_BPF_JIT"`
   */
  config(option: string): string | undefined {
    return kernelConfig()?.get(option);
  }
}

/** Makes a group with a feature for each row of a table. */
function groupOf<Name extends string, Row>(
  what: string,
  all: ReadonlyMap<Name, Row>,
  make: (row: Row, name: Name) => Feature,
): FeatureGroup<Name> {
  return new FeatureGroup(what, all.keys(), (name) => make(rowOf(all, what, name), name));
}

function rowOf<Name extends string, Row>(
  all: ReadonlyMap<Name, Row>,
  what: string,
  name: Name,
): Row {
  const row = all.get(name);
  if (row === undefined) throw unknownName(what, name, all.keys());
  return row;
}

/**
 * The features and the settings of the running kernel.
 *
 * Probes run on first use, and their results are cached for the life of the process. The library's operations do not probe
 * first: they call the kernel, and probe only to explain an error.
 *
 * Probes create maps and load programs, and close them at once. They need the same capabilities as the feature itself: if one is
 * missing, the feature is `"refused"`.
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
