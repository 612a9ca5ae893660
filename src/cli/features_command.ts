/** @module The command `bun-bpf features`: the BPF features of the running kernel, as text or JSON. */

import { Argument, type Command } from "commander";
import { runSteps } from "./command_line.ts";
import {
  counted,
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
    .description("probe the BPF features of the running kernel")
    .addArgument(
      new Argument(
        "[section...]",
        "the parts to show (default: all; without --json all but helpers)",
      ).choices(names),
    )
    .addHelpText(
      "after",
      `
Probes create maps, load programs, and attach programs where they disturb no other process. They undo all of
it at once, except that the probe of \`tc\` can make the kernel load modules, which stay loaded.

STATUS is "available", "missing", or "refused" if this process may not use the feature: without privileges
most features are refused. SINCE is the first kernel version that has the feature.

With --json the document has the keys settings, config, mapTypes, mapOperations, programTypes, attachKinds,
instructions, fixes and helpers (names by program type). A feature has the keys
status, since and reason (if it is not available).

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
    // Each section is printed when it is ready, because some take seconds.
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

/** The sections by their names on the command line, in the order of the output. */
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
  const hardened = jit.hardening === undefined ? "" : `, constant blinding: ${jit.hardening}`;
  const limitedBy = {
    "memory cgroup": "limited by the memory cgroup",
    rlimit: `limited by RLIMIT_MEMLOCK to ${lockedMemory.limit === Infinity ? "infinity" : humanBytes(lockedMemory.limit)}`,
  };
  return renderDetails([
    ["kernel", `${release}, ${architecture}`],
    ["CPUs", `${settings.possibleCpus} possible`],
    ["page size", `${settings.pageSize} bytes`],
    ["BTF", btf.vmlinux ? `vmlinux and ${counted(btf.modules, "module")}` : "none"],
    ["JIT", jit.mode === undefined ? "unknown" : `${jit.mode}${hardened}`],
    ["unprivileged bpf()", settings.unprivileged ?? "unknown"],
    ["lockdown", settings.lockdown ?? "unknown"],
    ["security modules", securityModules?.join(", ") ?? "unknown"],
    ["map memory", limitedBy[lockedMemory.countedBy]],
    ["io_uring", ioUring.available ? "available" : `not available: ${ioUring.reason}`],
  ]);
}

function configSection(): string {
  const options = bpfBuildOptions();
  if (options === undefined) return renderDetails([["kernel configuration", "unknown"]]);
  return renderDetails([...options].map(([name, value]) => [name, value ?? "not set"]));
}

/** Returns the options by name, with null for options that are not set; null if the configuration is unknown. */
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
      { title: "BATCH OPERATIONS" },
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

/** Suffix of the names of batch operations. */
const batchSuffix = "_batch";

function programSection(): string {
  const helpers = reportHelpers(features);
  return renderTable(
    [
      { title: "PROGRAM TYPE" },
      { title: "STATUS" },
      { title: "SINCE" },
      { title: "HELPERS", alignment: "right" },
      { title: "REASON" },
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
 * Probes all ways to attach, which takes a few seconds, because detaching waits for the kernel's grace periods. The probes run
 * as steps, because a cgroup would stay if the process ended in the middle of a probe.
 */
async function attachEntries(): Promise<FeatureEntries> {
  const { attachKinds } = features;
  const steps = attachKinds.names.map((kind) => () => {
    progress(`probing ${kind} ...`);
    void attachKinds.get(kind).status;
  });
  await runSteps(steps, () => progress(""));
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

/** Makes the table of a section, with a line for each feature. */
function featureTable(title: string, entries: FeatureEntries): string {
  return renderTable(
    [{ title }, { title: "STATUS" }, { title: "SINCE" }, { title: "REASON" }],
    Object.entries(entries).map(([name, { status, since, reason }]) => [
      name,
      { format: statusFormats[status], text: status },
      since ?? "",
      reason ?? "",
    ]),
  );
}

const statusFormats = { available: "green", missing: "dim", refused: "yellow" } as const;

/** Maximum length of a line of names. */
const maxLineLength = 80;

function lines(names: readonly string[]): string[] {
  return names.reduce<string[]>((done, name) => {
    const last = done.at(-1);
    if (last === undefined || last.length + name.length >= maxLineLength) return [...done, name];
    return [...done.slice(0, -1), `${last} ${name}`];
  }, []);
}

/** A feature in the JSON output. */
interface FeatureEntry {
  readonly status: FeatureStatus;
  /** The first kernel version that has the feature; `undefined` if no known version has it. */
  readonly since: string | undefined;
  /** The reason why the feature is not available. */
  readonly reason: string | undefined;
}

/** Features by name. */
export type FeatureEntries = Readonly<Record<string, FeatureEntry>>;

/** The JSON output of the command. */
export interface FeatureReport {
  readonly settings: KernelSettings;
  /** Options of the kernel's build, only in the output of the command; null if the configuration is unknown. */
  readonly config?: Readonly<Record<string, string | null>> | null;
  readonly mapTypes: FeatureEntries;
  /** Operations by map type, without those that no kernel has. */
  readonly mapOperations: Readonly<Record<string, FeatureEntries>>;
  readonly programTypes: FeatureEntries;
  readonly attachKinds: FeatureEntries;
  readonly instructions: FeatureEntries;
  /** Fixes of kernel bugs. */
  readonly fixes: FeatureEntries;
  /** The names of the available helpers, by program type. */
  readonly helpers: Readonly<Record<string, readonly string[]>>;
}

/** Probes all features, which takes several seconds. */
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

/** Returns the settings with the same keys on every machine; null means unknown, absent or no limit. */
export function settingsData({ ioUring, ...settings }: KernelSettings): Record<string, unknown> {
  // Nulls are not added to `ioUring`: like a feature, it has a reason only if it is not available.
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

/** Probes the operations on maps of each type. */
function reportOperations(features: Features): FeatureReport["mapOperations"] {
  return Object.fromEntries(
    features.mapTypes.names.map((type) => [
      type,
      entriesOf(features.mapOperations(type), isInSomeKernel),
    ]),
  );
}

/** Lists the helpers that programs of each type can call. */
function reportHelpers(features: Features): FeatureReport["helpers"] {
  return Object.fromEntries(
    features.programTypes.names.map((type) => {
      const helpers = features.helpers(type);
      return [type, helpers.names.filter((name) => helpers.get(name).available)];
    }),
  );
}

function isInSomeKernel({ since, available }: Feature): boolean {
  return since !== undefined || available;
}

/** Probes the features of a group. */
function entriesOf<Name extends string>(
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
