import { Descriptor } from "../../src/ffi/descriptor.ts";
import { asm } from "../../src/index.ts";
import type { Code, LiveMap } from "../../src/index.ts";
import { assemble } from "../../src/asm/assembler.ts";
import { kernelResolver } from "../../src/program/kernel_resolver.ts";
import { loadProgram } from "../../src/program/load.ts";
import type { SectionKind } from "../../src/program/section.ts";

const what = "special program";

/** A program of a kind whose section's name the library does not know. */
export function specialProgram(
  kind: Pick<SectionKind, "programType" | "attachType">,
  code: Code,
  maps: Readonly<Record<string, LiveMap>> = {},
): Descriptor {
  const section = { name: what, kind: { ...kind, needs: [] }, target: undefined };
  const assembled = assemble(code, kernelResolver(maps));
  const { fd } = loadProgram(section, { license: "GPL", name: "", what, assembled, logLevel: 0 });
  return new Descriptor(fd, what);
}

const passOn = [asm.mov(asm.r0, 2), asm.exit()];

/** An XDP program for a devmap: it sees packets before they are sent. */
export function devMapProgram(): Descriptor {
  return specialProgram({ programType: "XDP", attachType: "XDP_DEVMAP" }, passOn);
}

/** An XDP program for a cpumap: it sees packets on another CPU. */
export function cpuMapProgram(): Descriptor {
  return specialProgram({ programType: "XDP", attachType: "XDP_CPUMAP" }, passOn);
}

/** The kernel's id of a program that is open as a bare descriptor. */
export async function programId({ fd }: Descriptor): Promise<number> {
  const text = await Bun.file(`/proc/self/fdinfo/${fd}`).text();
  return Number(/^prog_id:\s*(\d+)$/m.exec(text)?.[1]);
}
