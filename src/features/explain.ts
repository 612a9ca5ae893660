/** @module Why the kernel refused something: whether it has it at all. To be asked after a refusal, as the answers are tried. */

import { registerExplainer } from "../handle/explanation.ts";
import { keyword } from "../check/names.ts";
import type { Feature } from "./feature.ts";
import { helperNames } from "./helper_facts.ts";
import { helperFeature } from "./helpers.ts";
import { type MapTypeName, mapTypes } from "../maps/map_types.ts";
import { mapTypeFeature } from "./map_types.ts";
import { programTypeFeature } from "./program_type_feature.ts";
import { type ProgramTypeKeyword, programTypes } from "./program_types.ts";

/** What is missing where a kernel has no maps of a type: `"lru_hash"`. `undefined` where it has, or that is not known. */
function explainMapType(type: string): string | undefined {
  const facts = mapTypes.get(type as MapTypeName);
  return facts && absence(mapTypeFeature(facts), `This kernel has no maps of the type ${type}`);
}

/** What is missing where a kernel has no programs of a type. `undefined` where it has. */
function explainProgramType(name: string): string | undefined {
  const type = keyword(name) as ProgramTypeKeyword;
  const facts = programTypes.get(type);
  return (
    facts && absence(programTypeFeature(facts), `This kernel has no programs of the type ${type}`)
  );
}

/** The verifier's words for a helper that it does not know, or not in programs of a type: those of kernels since 6.10, and before. */
const unknownHelper = /(?:unknown func|cannot use helper) \w+#(\d+)/;

/** What the verifier's log says of a helper that a kernel has not, or not for programs of a type; `undefined` for nothing. */
function explainHelper(name: string, log: string): string | undefined {
  const type = keyword(name) as ProgramTypeKeyword;
  const facts = programTypes.get(type);
  const helper = helperNames[Number(unknownHelper.exec(log)?.[1]) - 1];
  if (helper === undefined || facts === undefined) return undefined;
  const what = `Programs of the type ${type} cannot call bpf_${helper}() here`;
  return absence(helperFeature(facts, helper), what);
}

function absence(feature: Feature, what: string): string | undefined {
  try {
    return feature.status === "missing" ? `${what}: ${feature.reason}` : undefined;
  } catch {
    // The refusal that is to be explained is the error to report, not that there is no explanation.
    return undefined;
  }
}

registerExplainer({
  mapType: explainMapType,
  programType: explainProgramType,
  helper: explainHelper,
});
