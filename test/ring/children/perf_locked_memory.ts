/** @module Creates perf buffers beyond the limit on locked memory, with no capabilities except those for BPF. */
import { dlopen } from "bun:ffi";
import { BpfError, PerfBuffer, t } from "../../../src/index.ts";
import { countResources } from "../../support/resources.ts";

const version3 = 0x20080522;
// CAP_PERFMON and CAP_BPF, bits 38 and 39: in the upper words of the effective and the permitted set.
const bits = (1 << (38 - 32)) | (1 << (39 - 32));
const { capset, setrlimit } = dlopen("libc.so.6", {
  capset: { args: ["ptr", "ptr"], returns: "i32" },
  setrlimit: { args: ["i32", "ptr"], returns: "i32" },
}).symbols;
const RLIMIT_MEMLOCK = 8;
setrlimit(RLIMIT_MEMLOCK, BigUint64Array.of(65536n, 65536n));
if (capset(new Uint32Array([version3, 0]), new Uint32Array([0, 0, 0, bits, bits, 0])) !== 0) {
  throw new Error("capset could not drop the capabilities of this process");
}

const before = countResources();
try {
  using _ = new PerfBuffer({ event: t.u32, size: 1 << 24 });
  console.log("allowed");
} catch (error) {
  if (!(error instanceof BpfError)) throw error;
  console.log(error.code, error.hint);
}
if (JSON.stringify(countResources()) === JSON.stringify(before)) console.log("nothing left");
