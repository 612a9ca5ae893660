/** @module Creates a map without CAP_BPF, and without a free descriptor to read the capabilities. */
import { type BpfError, HashMap, t } from "../../../src/index.ts";
import { takeDescriptors } from "../../support/last_descriptors.ts";

using taken = takeDescriptors(0);
let refusal: BpfError | undefined;
try {
  using _ = new HashMap({ key: t.u32, value: t.u32, maxEntries: 1 });
} catch (error) {
  refusal = error as BpfError;
}
taken[Symbol.dispose]();
console.log(refusal?.message);
