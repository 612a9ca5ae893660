/** @module Tries to load programs of several sections, and prints the errors. */
import { asm, BpfError, Program } from "../../../src/index.ts";

const errors: Record<string, unknown> = {};
for (const section of ["raw_tp", "tp_btf/sched_switch", "tp", "xdp"] as const) {
  try {
    using _program = new Program({
      section,
      license: "GPL",
      code: [asm.mov(asm.r0, 0), asm.exit()],
    });
    errors[section] = "loaded";
  } catch (error) {
    if (!(error instanceof BpfError)) throw error;
    const { name, code, syscall, hint } = error;
    errors[section] = { name, code, syscall, hint };
  }
}
console.log(JSON.stringify(errors));
