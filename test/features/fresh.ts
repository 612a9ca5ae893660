import { Features } from "../../src/features/features.ts";
import type { Feature } from "../../src/index.ts";

/** Groups of features that have not been probed yet. */
export const fresh = {
  attachKinds: () => [...new Features().attachKinds],
  instructions: () => {
    const { instructions, programTypes } = new Features();
    return [...instructions, programTypes.get("ext")];
  },
  maps: () => {
    const features = new Features();
    const { mapTypes } = features;
    return [...mapTypes, ...mapTypes.names.flatMap((type) => [...features.mapOperations(type)])];
  },
  programs: () => {
    const features = new Features();
    return [...features.programTypes, ...features.helpers("xdp")];
  },
} as const satisfies Readonly<Record<string, () => Feature[]>>;

/** Returns the status of features by name. */
export function statuses(features: readonly Feature[]): Record<string, string> {
  return Object.fromEntries(features.map(({ name, status }) => [name, status]));
}
