/** @module Kernel bugs that affect this library, and the versions that fixed them. */

import { probeTrieFix, trieFixes } from "../maps/lpm_trie.ts";
import { Feature, FeatureGroup } from "./feature.ts";

/** A fix of a kernel bug, by what it fixes: `"lpm_trie_update"`. */
export type Fix = keyof typeof trieFixes;

/** The fixes that the running kernel has or lacks. Earlier stable kernels may have them, too. */
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
