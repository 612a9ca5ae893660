// Creates a map of the newest map type without loading probes of the kernel, and prints the error.
import { createFromSpec } from "../../../src/maps/create.ts";
import { RHASH } from "../../../src/maps/map_types.ts";
import { BpfError } from "../../../src/ffi/error.ts";
import { explainer } from "../../../src/ffi/explanation.ts";

if (explainer() !== undefined) throw new Error("probes are loaded");
try {
  createFromSpec(RHASH, {
    type: "rhash",
    keySize: 4,
    valueSize: 4,
    maxEntries: 1,
    flags: 1,
    name: "",
    numaNode: -1,
    mapExtra: 0,
  });
} catch (error) {
  if (!(error instanceof BpfError)) throw error;
  console.log(error.code, error.hint);
}
