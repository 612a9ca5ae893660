import type { Descriptor } from "../../src/ffi/descriptor.ts";
import { asm } from "../../src/index.ts";
import type { Code } from "../../src/index.ts";
import { loadProbeProgram } from "../../src/features/probe_program.ts";
import type { AttachTypeName, ProgramTypeName } from "../../src/index.ts";

/** A program of a kind whose section's name the library does not know. */
export function specialProgram(
  kind: { readonly programType: ProgramTypeName; readonly attachType: AttachTypeName },
  code: Code,
): Descriptor {
  const { programType: type, attachType } = kind;
  return loadProbeProgram({ type, attachType, code });
}

const passOn = [asm.mov(asm.r0, 2), asm.exit()];

/** An XDP program for a devmap: it sees packets before they are sent. */
export function devMapProgram(): Descriptor {
  return specialProgram({ programType: "xdp", attachType: "xdp_devmap" }, passOn);
}

/** An XDP program for a cpumap: it sees packets on another CPU. */
export function cpuMapProgram(): Descriptor {
  return specialProgram({ programType: "xdp", attachType: "xdp_cpumap" }, passOn);
}

/** The kernel's id of a program that is open as a bare descriptor. */
export async function programId({ fd }: Descriptor): Promise<number> {
  const text = await Bun.file(`/proc/self/fdinfo/${fd}`).text();
  return Number(/^prog_id:\s*(\d+)$/m.exec(text)?.[1]);
}
