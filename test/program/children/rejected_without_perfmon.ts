// Prints as JSON the reasons for which the verifier rejects programs of a process that has only CAP_BPF.
import { dlopen } from "bun:ffi";
import { ArrayMap, asm, type Code, Program, t, VerifierError } from "../../../src/index.ts";

const { r0, r1, r2, r3, r10 } = asm;
const version3 = 0x20080522;
/** CAP_BPF in the second word of a capability set. */
const bits = 1 << (39 - 32);
const { capset } = dlopen("libc.so.6", {
  capset: { args: ["ptr", "ptr"], returns: "i32" },
}).symbols;

using values = new ArrayMap({ value: t.u64, length: 1 });
// struct __user_cap_data_struct { effective, permitted, inheritable }, twice.
if (capset(new Uint32Array([version3, 0]), new Uint32Array([0, 0, 0, bits, bits, 0])) !== 0) {
  throw new Error("capset refused to drop the capabilities of this process");
}

const end: Code = [asm.mov(r0, 0), asm.exit()];

function rejection(code: Code): { reason: string | undefined; hint: string | undefined } {
  try {
    using _program = new Program({ section: "socket", license: "GPL", code, maps: { values } });
  } catch (error) {
    if (!(error instanceof VerifierError)) throw error;
    return { reason: error.reason, hint: error.hint };
  }
  throw new Error("the verifier accepted it");
}

console.log(
  JSON.stringify({
    leak: rejection([asm.mov(r0, r1), asm.exit()]),
    variableOffset: rejection([
      asm.ldxw(r3, r1, 0),
      asm.and(r3, 7),
      asm.mov(r2, r10),
      asm.add(r2, r3),
      asm.stb(r2, -8, 0),
      end,
    ]),
    unwritten: rejection([asm.ldxdw(r0, r10, -8), end]),
    unwrittenKey: rejection([
      asm.ldMap(r1, "values"),
      asm.mov(r2, r10),
      asm.add(r2, -4),
      asm.call("map_lookup_elem"),
      end,
    ]),
  }),
);
