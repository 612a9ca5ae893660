import { keyword } from "../types/keyword.ts";
import { probeExtension } from "./extension.ts";
import { Feature } from "./feature.ts";
import { probeProgramType, type ProgramTypeFacts } from "./program_types.ts";

/** Whether there are programs of a type: the smallest is loaded. */
export function programTypeFeature(type: ProgramTypeFacts): Feature {
  const name = `program type ${keyword(type.name)}`;
  const probe = () => (type.name === "EXT" ? probeExtension() : probeProgramType(type));
  return new Feature({ ...type, name, probe });
}
