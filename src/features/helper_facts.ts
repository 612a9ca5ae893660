import { isVersionSince, type KernelVersion } from "../ffi/kernel.ts";
import type { HelperName } from "../asm/call.ts";
import { bpfHelpers } from "../uapi/helpers.ts";
import { helperConfig } from "./helper_config.ts";
import { commonHelpers, particularHelpers } from "./helper_versions.ts";
import type { ProgramTypeFacts } from "./program_types.ts";

/** The names of all helpers, in the order in which the kernel got them. */
export const helperNames: readonly HelperName[] = (
  Object.keys(bpfHelpers) as (keyof typeof bpfHelpers)[]
).filter((name) => name !== "unspec");

/** Since when programs of a type can call a helper, and on what that depends. */
export interface HelperFacts {
  /** `undefined` where they cannot on any kernel that is known. */
  readonly since: KernelVersion | undefined;
  /** The version that does not have it any more; `undefined` for none. */
  readonly until: KernelVersion | undefined;
  readonly config: readonly string[];
}

type Versions = Pick<HelperFacts, "since" | "until">;

const never: Versions = { since: undefined, until: undefined };
const versionsByType = new Map<ProgramTypeFacts, ReadonlyMap<string, Versions>>();

/** What is known of a helper for programs of a type. */
export function helperFacts(type: ProgramTypeFacts, helper: HelperName): HelperFacts {
  let versions = versionsByType.get(type);
  if (versions === undefined) {
    versions = versionsOf(type);
    versionsByType.set(type, versions);
  }
  const config = [...(type.config ?? []), ...(helperConfig[helper] ?? [])];
  return { ...(versions.get(helper) ?? never), config };
}

function versionsOf({ name, since }: ProgramTypeFacts): ReadonlyMap<string, Versions> {
  const particular = particularHelpers[name];
  if (particular === undefined) return new Map();
  const common = Object.entries(commonHelpers).map(([helper, version]) => {
    return [helper, { since: laterOf(version, since), until: undefined }] as const;
  });
  const entries = particular.flatMap((table) => Object.entries(table as Record<string, string>));
  const others = entries.flatMap(([range, helpers]) => {
    const [first, until] = range.split("-") as [KernelVersion | "never", KernelVersion?];
    const versions = first === "never" ? never : { since: laterOf(first, since), until };
    return helpers.split(" ").map((helper) => [helper, versions] as const);
  });
  return new Map([...common, ...others]);
}

function laterOf(one: KernelVersion, other: KernelVersion): KernelVersion {
  return isVersionSince(one, other) ? one : other;
}
