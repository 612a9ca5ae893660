import type { Descriptor } from "../../src/ffi/descriptor.ts";
import { asm } from "../../src/index.ts";
import { loadProbe } from "../../src/features/probe_program.ts";

const passOn = [asm.mov(asm.r0, 2), asm.exit()];

/** Loads an XDP program for a devmap, which runs on packets before they are sent. */
export function devMapProgram(): Descriptor {
  return loadProbe("xdp/devmap", passOn);
}

/** Loads an XDP program for a cpumap, which runs on packets on another CPU. */
export function cpuMapProgram(): Descriptor {
  return loadProbe("xdp/cpumap", passOn);
}

/** Returns the id of the program of a descriptor. */
export async function programId({ fd }: Descriptor): Promise<number> {
  const text = await Bun.file(`/proc/self/fdinfo/${fd}`).text();
  return Number(/^prog_id:\s*(\d+)$/m.exec(text)?.[1]);
}
