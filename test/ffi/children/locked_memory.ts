// locked_memory.ts [keep]: creates a map of 8 MiB, and prints the limit on locked memory before and after, and the error.
// Without `keep` it first drops CAP_SYS_RESOURCE, which is needed to raise the limit above the hard limit.
import { dlopen } from "bun:ffi";
import { lockedMemoryLimit } from "../../../src/ffi/permission.ts";
import { ArrayMap, BpfError, t } from "../../../src/index.ts";

if (process.argv[2] !== "keep") {
  const { capget, capset } = dlopen("libc.so.6", {
    capget: { args: ["ptr", "ptr"], returns: "i32" },
    capset: { args: ["ptr", "ptr"], returns: "i32" },
  }).symbols;
  // struct __user_cap_header_struct { version, pid }, and two of { effective, permitted, inheritable }.
  const header = Uint32Array.of(0x20080522, 0);
  const sets = new Uint32Array(6);
  const sysResource = 1 << 24;
  if (capget(header, sets) !== 0) throw new Error("capget failed");
  for (const index of [0, 1, 2]) sets[index] = (sets[index] as number) & ~sysResource;
  if (capset(header, sets) !== 0) throw new Error("capset failed");
}
const before = lockedMemoryLimit();
let refusal = "";
try {
  using _map = new ArrayMap({ value: t.bytes(4096), length: 2048, name: "large" });
} catch (error) {
  if (!(error instanceof BpfError)) throw error;
  refusal = `${error.code}: ${error.hint}`;
}
console.log(JSON.stringify({ before: before.soft, after: `${lockedMemoryLimit().soft}`, refusal }));
