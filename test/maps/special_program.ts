import type { Descriptor } from "../../src/ffi/descriptor.ts";
import { asm } from "../../src/index.ts";
import type { Code } from "../../src/index.ts";
import { loadProbeProgram } from "../../src/features/probe_program.ts";
import type { AttachTypeName, ProgramTypeName } from "../../src/index.ts";

/** Loads a program with an attach type that no section of the library has. */
export function specialProgram(
  kind: { readonly programType: ProgramTypeName; readonly attachType: AttachTypeName },
  code: Code,
): Descriptor {
  const { programType: type, attachType } = kind;
  return loadProbeProgram({ type, attachType, code });
}

const passOn = [asm.mov(asm.r0, 2), asm.exit()];

/** Loads an XDP program for a devmap, which runs on packets before they are sent. */
export function devMapProgram(): Descriptor {
  return specialProgram({ programType: "xdp", attachType: "xdp_devmap" }, passOn);
}

/** Loads an XDP program for a cpumap, which runs on packets on another CPU. */
export function cpuMapProgram(): Descriptor {
  return specialProgram({ programType: "xdp", attachType: "xdp_cpumap" }, passOn);
}

/** Returns the id of the program of a descriptor. */
export async function programId({ fd }: Descriptor): Promise<number> {
  const text = await Bun.file(`/proc/self/fdinfo/${fd}`).text();
  return Number(/^prog_id:\s*(\d+)$/m.exec(text)?.[1]);
}
