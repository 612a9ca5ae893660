/** @module Explains refusals by probes: they run after a refusal, and say whether the kernel has the feature at all. */

import { registerExplainer } from "../ffi/explanation.ts";
import { readPrivateLockdown } from "../ffi/security.ts";
import type { Feature } from "./feature.ts";
import { type MapTypeName, mapTypes } from "../maps/map_types.ts";
import { helperFeature, helperNames } from "./helpers.ts";
import { mapTypeFeature } from "./map_types.ts";
import { programTypeFeature } from "./trial_program.ts";
import type { ProgramTypeName } from "../ffi/bpf_prog.ts";

/** Says what is missing where a kernel has no maps of a type: `"lru_hash"`. `undefined` where it has, or that is not known. */
function explainMapType(type: string): string | undefined {
  const facts = mapTypes.get(type as MapTypeName);
  return (
    facts && absence(() => mapTypeFeature(facts), `This kernel has no maps of the type ${type}`)
  );
}

/** Says what is missing where a kernel has no programs of a type. `undefined` where it has. */
function explainProgramType(type: string): string | undefined {
  const known = type as ProgramTypeName;
  return absence(
    () => programTypeFeature(known),
    `This kernel has no programs of the type ${type}`,
  );
}

/** The verifier's words for a helper that it does not know, or not in programs of a type: those of kernels since 6.10, and before. */
const unknownHelper = /(?:unknown func|cannot use helper) \w+#(\d+)/;

/** Explains a verifier's log about a helper that a kernel has not, or not for programs of a type; `undefined` for nothing. */
function explainHelper(type: string, log: string): string | undefined {
  const helper = helperNames[Number(unknownHelper.exec(log)?.[1]) - 1];
  if (helper === undefined) return undefined;
  const what = `Programs of the type ${type} cannot call bpf_${helper}() here`;
  return absence(() => helperFeature(type as ProgramTypeName, helper), what);
}

function absence(make: () => Feature, what: string): string | undefined {
  try {
    const { status, reason } = make();
    return status === "missing" ? `${what}: ${reason}` : undefined;
  } catch {
    // The refusal that is to be explained is the error to report, not that there is no explanation.
    return undefined;
  }
}

registerExplainer({
  mapType: explainMapType,
  programType: explainProgramType,
  helper: explainHelper,
  lockdown: readPrivateLockdown,
});
