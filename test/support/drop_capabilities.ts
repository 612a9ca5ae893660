/**
 * Drops all capabilities of this process: `bun --preload test/support/drop_capabilities.ts FILE`.
 *
 * The user stays the same, so that the process can still read Bun and the repository.
 */
import { dlopen } from "bun:ffi";

const version3 = 0x20080522;
const { capset } = dlopen("libc.so.6", {
  capset: { args: ["ptr", "ptr"], returns: "i32" },
}).symbols;
// struct __user_cap_header_struct { version, pid }, and two of { effective, permitted, inheritable }: all empty.
if (capset(new Uint32Array([version3, 0]), new Uint32Array(6)) !== 0) {
  throw new Error("capset refused to drop the capabilities of this process");
}
