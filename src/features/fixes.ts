/** @module Kernel bugs that affect this library, and the versions that fixed them. */

import { probeTrieFix, trieFixes } from "../maps/lpm_trie.ts";
import { Feature, FeatureGroup } from "./feature.ts";

/** A fixed kernel bug, by what is right since: `"lpm_trie_update"`. */
export type Fix = keyof typeof trieFixes;

/** The fixes that the running kernel has or has not. Stable kernels of earlier versions may have them. */
export const fixes: FeatureGroup<Fix> = new FeatureGroup(
  "fix",
  Object.keys(trieFixes) as Fix[],
  (fix) =>
    new Feature({
      name: `fix ${fix}`,
      since: trieFixes[fix].since,
      isBackported: true,
      needs: ["CAP_BPF"],
      probe: () => probeTrieFix(fix),
    }),
);
