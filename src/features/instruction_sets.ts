import type { Capability } from "../ffi/capabilities.ts";
import type { Descriptor } from "../ffi/descriptor.ts";
import type { KernelVersion } from "../ffi/kernel_release.ts";
import * as asm from "../program/asm.ts";
import type { Instruction } from "../program/instruction.ts";
import { attempt } from "./attempt.ts";
import { sinceByArchitecture } from "./by_architecture.ts";
import { loadExtensionTarget } from "./extension.ts";
import type { ProbeAnswer } from "./feature.ts";
import {
  load,
  loadArenaCast,
  loadCallback,
  loadException,
  loadIndirectJump,
  loadKernelFunctionCall,
  loadKernelVariable,
  loadMapValue,
} from "./instruction_programs.ts";
import { returnZero } from "./smallest_program.ts";

const { r0, r1, r10 } = asm;

/** Instructions, or ways to use them, that kernels have since one of them: since when, on what they depend, and how they are tried. */
export interface InstructionSetFacts {
  readonly since: KernelVersion;
  readonly isBackported?: boolean;
  readonly config?: readonly string[];
  readonly needs: readonly Capability[];
  /** Loads a program that has them. @throws what the kernel answers */
  readonly load: () => Descriptor;
}

const plain = { needs: ["CAP_BPF"] } as const;
const kernelFunctions = {
  needs: ["CAP_BPF", "CAP_PERFMON", "CAP_NET_ADMIN"],
  config: ["CONFIG_BPF_JIT", "CONFIG_DEBUG_INFO_BTF"],
} as const;

/** How many instructions a program had at most before kernel 5.2, which takes a million. */
const formerMost = 4096;

/** Zeroes the 8 bytes that programs here work on. */
const clearStack = asm.stdw(r10, -8, 0);

const facts = {
  "less-than-jumps": {
    since: "4.14",
    ...plain,
    load: () => load(asm.mov(r0, 0), asm.jlt(r0, 1, "end"), asm.label("end"), asm.exit()),
  },
  "function-calls": {
    since: "4.16",
    ...plain,
    load: () => load(asm.callFunction("zero"), asm.exit(), asm.func("zero"), ...returnZero),
  },
  "32-bit-jumps": {
    since: "5.1",
    ...plain,
    load: () => load(asm.mov(r0, 0), asm.jeq32(r0, 0, "end"), asm.label("end"), asm.exit()),
  },
  "map-values": { since: "5.2", ...plain, load: loadMapValue },
  "large-programs": {
    since: "5.2",
    ...plain,
    load: () => load(Array<Instruction>(formerMost).fill(asm.mov(r0, 0)), asm.exit()),
  },
  "bounded-loops": {
    since: "5.3",
    ...plain,
    load: () =>
      load(asm.mov(r0, 0), asm.label("again"), asm.add(r0, 1), asm.jlt(r0, 4, "again"), asm.exit()),
  },
  "global-functions": { since: "5.6", ...plain, load: loadExtensionTarget },
  "kernel-variables": {
    since: "5.10",
    ...plain,
    config: ["CONFIG_DEBUG_INFO_BTF", "CONFIG_KALLSYMS_ALL"],
    load: loadKernelVariable,
  },
  "fetching-atomics": {
    since: sinceByArchitecture({ x64: "5.12", arm64: "5.18" }),
    ...plain,
    load: () =>
      load(
        ...[clearStack, asm.mov(r0, 0), asm.mov(r1, 1)],
        asm.atomicFetchAdd(r10, -8, r1),
        asm.atomicOr(r10, -8, r1),
        asm.xchg(r10, -8, r1),
        asm.cmpxchg(r10, -8, r1),
        returnZero,
      ),
  },
  callbacks: { since: "5.13", ...plain, load: loadCallback },
  "kernel-functions": {
    since: sinceByArchitecture({ x64: "5.13", arm64: "5.18" }),
    ...kernelFunctions,
    config: [...kernelFunctions.config, "CONFIG_INET"],
    load: loadKernelFunctionCall,
  },
  "sign-extension": {
    since: "6.6",
    ...plain,
    load: () => load(clearStack, asm.ldxsb(r1, r10, -8), asm.movsx8(r1, r1), returnZero),
  },
  "byte-swap": {
    since: "6.6",
    ...plain,
    load: () => load(asm.mov(r0, 0), asm.bswap64(r0), returnZero),
  },
  "signed-division": {
    since: "6.6",
    ...plain,
    load: () => load(asm.mov(r0, -7), asm.sdiv(r0, 2), asm.smod(r0, 2), returnZero),
  },
  // Stable kernels of 6.1 took them over.
  "long-jumps": {
    since: "6.6",
    isBackported: true,
    ...plain,
    load: () => load(asm.mov(r0, 0), asm.gotol("end"), asm.label("end"), asm.exit()),
  },
  exceptions: {
    since: sinceByArchitecture({ x64: "6.7", arm64: "6.9" }),
    ...kernelFunctions,
    load: loadException,
  },
  "may-goto": {
    since: "6.9",
    ...plain,
    load: () =>
      load(
        ...[asm.mov(r0, 0), asm.label("again"), asm.mayGoto("end"), asm.ja("again")],
        ...[asm.label("end"), asm.exit()],
      ),
  },
  "arena-casts": {
    since: sinceByArchitecture({ x64: "6.9", arm64: "6.10" }),
    needs: ["CAP_BPF", "CAP_PERFMON"],
    config: ["CONFIG_BPF_JIT", "CONFIG_MMU", "CONFIG_64BIT"],
    load: loadArenaCast,
  },
  "acquire-release": {
    since: "6.15",
    ...plain,
    load: () =>
      load(clearStack, asm.loadAcquireDW(r1, r10, -8), asm.storeReleaseDW(r10, -8, r1), returnZero),
  },
  "indirect-jumps": {
    since: "6.19",
    ...plain,
    config: ["CONFIG_BPF_JIT"],
    load: loadIndirectJump,
  },
} as const satisfies Readonly<Record<string, InstructionSetFacts>>;

/** Instructions, or ways to use them, that kernels have since one of them: `"may-goto"`. */
export type InstructionSet = keyof typeof facts;

/** What is known of each, oldest first. */
export const instructionSets: ReadonlyMap<InstructionSet, InstructionSetFacts> = new Map(
  Object.entries(facts) as [InstructionSet, InstructionSetFacts][],
);

/** What the kernel answers to a program that has such instructions. */
export function probeInstructionSet({ load }: InstructionSetFacts): ProbeAnswer {
  return attempt(() => load()[Symbol.dispose]());
}
