import { Features } from "../../src/features/features.ts";
import type { Feature } from "../../src/index.ts";

/** Features of a sort, about which the kernel has not been asked yet. */
export const fresh = {
  attachKinds: () => [...new Features().attachKinds],
  instructions: () => {
    const { instructions, programTypes } = new Features();
    return [...instructions, programTypes.get("ext")];
  },
} as const satisfies Readonly<Record<string, () => Feature[]>>;

/** What these features are now. */
export function statuses(features: readonly Feature[]): Record<string, string> {
  return Object.fromEntries(features.map(({ name, status }) => [name, status]));
}
