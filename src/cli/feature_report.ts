/** @module What the kernel has, as plain data: for JSON, for tables, for comparing kernels. */

import type { Feature, FeatureStatus } from "../features/feature.ts";
import type { FeatureGroup } from "../features/feature_group.ts";
import type { Features } from "../features/features.ts";
import type { KernelSettings } from "../features/settings.ts";

/** One feature. */
export interface FeatureEntry {
  readonly status: FeatureStatus;
  /** The version of the kernel that has it first; `undefined` for one that none has. */
  readonly since: string | undefined;
  /** Why it is not available. */
  readonly reason: string | undefined;
}

/** Features by name. */
export type FeatureEntries = Readonly<Record<string, FeatureEntry>>;

/** Everything that is known of the running kernel. */
export interface FeatureReport {
  readonly settings: KernelSettings;
  readonly mapTypes: FeatureEntries;
  /** By kind of map. What no kernel has is left out. */
  readonly mapOperations: Readonly<Record<string, FeatureEntries>>;
  readonly programTypes: FeatureEntries;
  readonly attachKinds: FeatureEntries;
  readonly instructions: FeatureEntries;
  /** Mistakes that were mended. */
  readonly fixes: FeatureEntries;
  /** By type of program: those that it can call. */
  readonly helpers: Readonly<Record<string, readonly string[]>>;
}

/** Asks the kernel about everything, which takes some seconds. */
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

/** The settings with the same keys on every machine, as scripts want them: null for what is not known, and for no limit. */
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

/** What can be done with maps of each kind. */
export function reportOperations(features: Features): FeatureReport["mapOperations"] {
  return Object.fromEntries(
    features.mapTypes.names.map((type) => [type, entriesOf(features.mapOperations(type), isKnown)]),
  );
}

/** The helpers that programs of each type can call. */
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

/** What the kernel answers about the features of a group. */
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
