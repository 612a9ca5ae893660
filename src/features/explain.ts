/** @module Explains errors of the kernel by probes, which find out after the error if the kernel has the feature. */

import { registerExplainer } from "../ffi/explanation.ts";
import { readPrivateLockdown } from "../ffi/security.ts";
import type { Feature } from "./feature.ts";
import { type MapTypeName, mapTypes } from "../maps/map_types.ts";
import { helperFeature, helperNames } from "./helpers.ts";
import { mapTypeFeature } from "./map_types.ts";
import { programTypeFeature } from "./probe_program.ts";
import type { ProgramTypeName } from "../ffi/bpf_prog.ts";

/** Returns the reason why the kernel has no maps of a type; `undefined` if the kernel has them, or the type is not known. */
function explainMapType(type: string): string | undefined {
  const facts = mapTypes.get(type as MapTypeName);
  return (
    facts &&
    missingReason(() => mapTypeFeature(facts), `This kernel does not support the map type ${type}`)
  );
}

/** Returns the reason why the kernel has no programs of a type; `undefined` if the kernel has them. */
function explainProgramType(type: string): string | undefined {
  const known = type as ProgramTypeName;
  return missingReason(
    () => programTypeFeature(known),
    `This kernel does not support the program type ${type}`,
  );
}

/** Matches the verifier's message about a helper that the program cannot call: the wordings before and since Linux 6.10. */
const unknownHelper = /(?:unknown func|cannot use helper) \w+#(\d+)/;

/** Returns the reason why programs of a type cannot call the helper that a verifier's log rejects; `undefined` if it rejects none. */
function explainHelper(type: string, log: string): string | undefined {
  const helper = helperNames[Number(unknownHelper.exec(log)?.[1]) - 1];
  if (helper === undefined) return undefined;
  const what = `Programs of the type ${type} cannot call bpf_${helper}() on this kernel`;
  return missingReason(() => helperFeature(type as ProgramTypeName, helper), what);
}

function missingReason(make: () => Feature, what: string): string | undefined {
  try {
    const { status, reason } = make();
    return status === "missing" ? `${what}: ${reason}` : undefined;
  } catch {
    // The caller reports another error, for which this is only a hint.
    return undefined;
  }
}

registerExplainer({
  mapType: explainMapType,
  programType: explainProgramType,
  helper: explainHelper,
  lockdown: readPrivateLockdown,
});
