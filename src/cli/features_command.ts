/** @module The command `bun-bpf features`: what the running kernel can do, as a text and as plain data. */

import { Argument, type Command } from "commander";
import { runSteps } from "./command_line.ts";
import {
  humanBytes,
  type JsonOption,
  printJson,
  progress,
  renderDetails,
  renderTable,
  withJson,
  writeOut,
} from "./output.ts";
import { bpfBuildOptions } from "../features/build_options.ts";
import type { Feature, FeatureGroup, FeatureStatus } from "../features/feature.ts";
import { type Features, features } from "../features/features.ts";
import type { KernelSettings } from "../features/settings.ts";

/** Adds the command `bun-bpf features`. */
export function featuresCommand(program: Command): void {
  const names = Object.keys(sections);
  const command = program
    .command("features")
    .description("what the running kernel has, found out by trying it")
    .addArgument(
      new Argument(
        "[section...]",
        "what to show (default: all, for people without helpers)",
      ).choices(names),
    )
    .addHelpText(
      "after",
      `
Nothing stays of what is tried: programs and maps are made and let go, attached in places that
nobody else uses, and detached. Without privileges most is refused.

Examples:
  bun-bpf features
  bun-bpf features maps helpers
  bun-bpf features --json | jq -r '.attachKinds | to_entries[] | select(.value.status != "available") | .key'`,
    );
  withJson(command).action(async (args: readonly string[], { json }: JsonOption) => {
    const wanted = [...new Set(args)];
    if (json) {
      const shown = wanted.length === 0 ? names : wanted;
      const report: SectionData = {};
      for (const name of shown) Object.assign(report, await sections[name]?.data());
      printJson(report);
      return;
    }
    const shown = wanted.length === 0 ? names.filter((name) => name !== "helpers") : wanted;
    // One after another, as some take seconds.
    for (const [index, name] of shown.entries()) {
      const text = await sections[name]?.text();
      writeOut(`${index === 0 ? "" : "\n"}${text ?? ""}`);
    }
  });
}

/** A section of the output. */
interface Section {
  /** Makes the text for people. */
  readonly text: () => string | Promise<string>;
  /** Makes the data for scripts. */
  readonly data: () => SectionData | Promise<SectionData>;
}

type SectionData = Partial<Record<keyof FeatureReport, unknown>>;

/** The sections by the names that the command line takes, in their order. Each asks the kernel for itself. */
const sections: Readonly<Record<string, Section>> = {
  kernel: { text: kernelSection, data: () => ({ settings: settingsData(features.settings) }) },
  config: { text: configSection, data: () => ({ config: configData() }) },
  maps: {
    text: mapSection,
    data: () => ({
      mapTypes: entriesOf(features.mapTypes),
      mapOperations: reportOperations(features),
    }),
  },
  programs: {
    text: programSection,
    data: () => ({ programTypes: entriesOf(features.programTypes) }),
  },
  attach: {
    text: attachSection,
    data: async () => ({ attachKinds: await attachEntries() }),
  },
  instructions: {
    text: () => featureTable("INSTRUCTIONS", entriesOf(features.instructions)),
    data: () => ({ instructions: entriesOf(features.instructions) }),
  },
  fixes: {
    text: () => featureTable("FIX", entriesOf(features.fixes)),
    data: () => ({ fixes: entriesOf(features.fixes) }),
  },
  helpers: { text: helperSection, data: () => ({ helpers: reportHelpers(features) }) },
};

function kernelSection(): string {
  const { settings } = features;
  const { release, architecture, btf, jit, lockedMemory, ioUring, securityModules } = settings;
  const hardened = jit.hardening === undefined ? "" : `, constants blinded: ${jit.hardening}`;
  const counted = {
    "memory cgroup": "counted by the memory cgroup",
    rlimit: `limited to ${lockedMemory.limit === Infinity ? "nothing" : humanBytes(lockedMemory.limit)} by RLIMIT_MEMLOCK`,
  };
  return renderDetails([
    ["kernel", `${release}, ${architecture}`],
    ["CPUs", `${settings.possibleCpus} possible`],
    ["pages", `${settings.pageSize} bytes`],
    ["BTF", btf.vmlinux ? `of the kernel and ${btf.modules} modules` : "none"],
    ["JIT", jit.mode === undefined ? "unknown" : `${jit.mode}${hardened}`],
    ["unprivileged bpf()", settings.unprivileged ?? "unknown"],
    ["lockdown", settings.lockdown ?? "unknown"],
    ["security modules", securityModules?.join(", ") ?? "unknown"],
    ["memory of maps", counted[lockedMemory.countedBy]],
    ["io_uring", ioUring.available ? "available" : `not available: ${ioUring.reason}`],
  ]);
}

function configSection(): string {
  const options = bpfBuildOptions();
  if (options === undefined) return renderDetails([["kernel configuration", "unknown"]]);
  return renderDetails([...options].map(([name, value]) => [name, value ?? "not set"]));
}

/** Returns the options by name, with null for those that are not set; null where the configuration is unknown. */
function configData(): FeatureReport["config"] {
  const options = bpfBuildOptions();
  if (options === undefined) return null;
  return Object.fromEntries([...options].map(([name, value]) => [name, value ?? null]));
}

function mapSection(): string {
  const mapOperations = reportOperations(features);
  return renderTable(
    [
      { title: "MAP TYPE" },
      { title: "STATUS" },
      { title: "SINCE" },
      { title: "OPERATIONS" },
      { title: "IN BATCHES" },
    ],
    Object.entries(entriesOf(features.mapTypes)).map(([type, { status, since, reason }]) => {
      const operations = Object.entries(mapOperations[type] ?? {})
        .filter(([, entry]) => entry.status === "available")
        .map(([name]) => name);
      const [batches, single] = [true, false].map((wanted) =>
        operations.filter((name) => name.endsWith(batchSuffix) === wanted),
      ) as [string[], string[]];
      return [
        type,
        { format: statusFormats[status], text: status },
        since ?? "",
        single.join(" ") || (reason ?? ""),
        batches.map((name) => name.slice(0, -batchSuffix.length)).join(" "),
      ];
    }),
  );
}

/** The end of the names of all operations on many elements. */
const batchSuffix = "_batch";

function programSection(): string {
  const helpers = reportHelpers(features);
  return renderTable(
    [
      { title: "PROGRAM TYPE" },
      { title: "STATUS" },
      { title: "SINCE" },
      { title: "HELPERS", alignment: "right" },
      { title: "WHY NOT" },
    ],
    Object.entries(entriesOf(features.programTypes)).map(([type, { status, since, reason }]) => [
      type,
      { format: statusFormats[status], text: status },
      since ?? "",
      `${helpers[type]?.length || ""}`,
      reason ?? "",
    ]),
  );
}

async function attachSection(): Promise<string> {
  return featureTable("ATTACH", await attachEntries());
}

/**
 * Probes all ways to attach. Some end with a grace period of the kernel's, so that all of them take a few seconds; some are
 * probed in a cgroup, which would stay if the process ended meanwhile.
 */
async function attachEntries(): Promise<FeatureEntries> {
  const { attachKinds } = features;
  const tries = attachKinds.names.map((kind) => () => {
    progress(`trying ${kind} ...`);
    void attachKinds.get(kind).status;
  });
  await runSteps(tries, () => progress(""));
  return entriesOf(attachKinds);
}

function helperSection(): string {
  return renderDetails(
    Object.entries(reportHelpers(features)).map(([type, names]) => [
      type,
      names.length === 0 ? "none" : lines(names),
    ]),
  );
}

/** Makes the table of a section: a line for each feature, available or not. */
function featureTable(title: string, entries: FeatureEntries): string {
  return renderTable(
    [{ title }, { title: "STATUS" }, { title: "SINCE" }, { title: "WHY NOT" }],
    Object.entries(entries).map(([name, { status, since, reason }]) => [
      name,
      { format: statusFormats[status], text: status },
      since ?? "",
      reason ?? "",
    ]),
  );
}

const statusFormats = { available: "green", missing: "dim", refused: "yellow" } as const;

/** The length that a line of names may have. */
const lineLength = 80;

function lines(names: readonly string[]): string[] {
  return names.reduce<string[]>((done, name) => {
    const last = done.at(-1);
    if (last === undefined || last.length + name.length >= lineLength) return [...done, name];
    return [...done.slice(0, -1), `${last} ${name}`];
  }, []);
}

/** One feature. */
export interface FeatureEntry {
  readonly status: FeatureStatus;
  /** The version of the kernel that has it first; `undefined` for one that none has. */
  readonly since: string | undefined;
  /** The reason that it is not available. */
  readonly reason: string | undefined;
}

/** Features by name. */
export type FeatureEntries = Readonly<Record<string, FeatureEntry>>;

/** All that is known of the running kernel. */
export interface FeatureReport {
  readonly settings: KernelSettings;
  /** Options of the kernel's build, which only the command reports; null where the configuration is unknown. */
  readonly config?: Readonly<Record<string, string | null>> | null;
  readonly mapTypes: FeatureEntries;
  /** By kind of map. What no kernel has is left out. */
  readonly mapOperations: Readonly<Record<string, FeatureEntries>>;
  readonly programTypes: FeatureEntries;
  readonly attachKinds: FeatureEntries;
  readonly instructions: FeatureEntries;
  /** Bugs of the kernel, and whether they are fixed. */
  readonly fixes: FeatureEntries;
  /** Those that a program can call, by its type. */
  readonly helpers: Readonly<Record<string, readonly string[]>>;
}

/** Probes everything, which takes some seconds. */
export function reportFeatures(features: Features): FeatureReport {
  return {
    settings: features.settings,
    mapTypes: entriesOf(features.mapTypes),
    mapOperations: reportOperations(features),
    programTypes: entriesOf(features.programTypes),
    attachKinds: entriesOf(features.attachKinds),
    instructions: entriesOf(features.instructions),
    fixes: entriesOf(features.fixes),
    helpers: reportHelpers(features),
  };
}

/** Gives the settings the same keys on every machine, for scripts: null is what is not known, and no limit. */
export function settingsData({ ioUring, ...settings }: KernelSettings): Record<string, unknown> {
  // Only what is not available has a reason, as it is for features.
  return { ...withNulls(settings), ioUring };
}

function withNulls(group: object): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(group).map(([name, value]: [string, unknown]) => {
      if (value === undefined || value === Infinity) return [name, null];
      const isGroup = typeof value === "object" && value !== null && !Array.isArray(value);
      return [name, isGroup ? withNulls(value) : value];
    }),
  );
}

/** Probes the operations on maps of each kind. */
export function reportOperations(features: Features): FeatureReport["mapOperations"] {
  return Object.fromEntries(
    features.mapTypes.names.map((type) => [type, entriesOf(features.mapOperations(type), isKnown)]),
  );
}

/** Lists the helpers that programs of each type can call. */
export function reportHelpers(features: Features): FeatureReport["helpers"] {
  return Object.fromEntries(
    features.programTypes.names.map((type) => {
      const helpers = features.helpers(type);
      return [type, helpers.names.filter((name) => helpers.get(name).available)];
    }),
  );
}

function isKnown({ since, available }: Feature): boolean {
  return since !== undefined || available;
}

/** Probes the features of a group. */
export function entriesOf<Name extends string>(
  group: FeatureGroup<Name>,
  isShown: (feature: Feature) => boolean = () => true,
): FeatureEntries {
  const shown = group.names.filter((name) => isShown(group.get(name)));
  return Object.fromEntries(
    shown.map((name) => {
      const { status, since, reason } = group.get(name);
      return [name, { status, since, reason }] as const;
    }),
  );
}
