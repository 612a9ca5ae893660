/** @module Probes of instructions, and of ways to use them, one row each with the smallest program that uses them. */

import * as asm from "../asm/asm.ts";
import type { Code, Instruction } from "../asm/instruction.ts";
import { Btf } from "../btf/btf.ts";
import { attempt, descriptorOf, Missing, requireSuccess } from "./attempt.ts";
import type { ProbeAnswer } from "./feature.ts";
import { kernelTypeId, loadExtensible, loadProbe, returnZero } from "./probe_program.ts";
import { probeElement, probeFreeze, probeMap } from "../ffi/bpf_probe.ts";
import type { Capability } from "../ffi/capabilities.ts";
import type { Descriptor } from "../ffi/descriptor.ts";
import { type KernelVersion, sinceByArchitecture } from "../ffi/kernel.ts";
import { BPF_MAP_UPDATE_ELEM } from "../uapi/commands.ts";
import { BPF_F_MMAPABLE } from "../uapi/bpf.ts";

const { r0, r1, r2, r3, r4, r10 } = asm;

/**
 * Loads a program of the simplest type.
 *
 * @throws {BpfError} if the kernel refuses.
 */
function load(...code: Code): Descriptor {
  return loadProbe("socket", code);
}

const array = { type: "ARRAY", keySize: 4, valueSize: 8, maxEntries: 1 } as const;

/** Loads a program that loads the address of a map's value. */
function loadMapValue(): Descriptor {
  using map = descriptorOf(probeMap(array));
  return load(asm.ldMapValue(r1, map, 0), asm.stdw(r1, 0, 1), returnZero);
}

/** Loads a program that passes a function to a helper as a callback. */
function loadCallback(): Descriptor {
  using map = descriptorOf(probeMap(array));
  return load(
    asm.ldMap(r1, map),
    asm.ldFunc(r2, "each"),
    ...[asm.mov(r3, 0), asm.mov(r4, 0), asm.call("for_each_map_elem")],
    returnZero,
    asm.func("each"),
    returnZero,
  );
}

/** Loads a program that calls a kernel function (kfunc): one of the first ones, for congestion control algorithms. */
function loadKernelFunctionCall(): Descriptor {
  const name = "tcp_reno_undo_cwnd";
  kernelTypeId("func", name);
  // The first instruction loads the socket, the only argument of the program and of the kernel function.
  const code = [asm.ldxdw(r1, r1, 0), asm.callKernelFunction(name), asm.exit()];
  return loadProbe("struct_ops/tcp_congestion_ops.undo_cwnd", code);
}

/** Loads a program that loads the address of a kernel variable (ksym). */
function loadKernelVariable(): Descriptor {
  const name = "bpf_prog_active";
  if (Btf.kernel().find("var", name) === undefined) {
    throw new Missing(
      `the kernel's BTF has no variable ${name}: the kernel was built with a pahole older than 1.18`,
    );
  }
  return load(asm.ldKernelSymbol(r0, name), returnZero);
}

/** Loads a program that throws an exception. */
function loadException(): Descriptor {
  const name = "bpf_throw";
  kernelTypeId("func", name);
  return loadProbe("tc", [asm.mov(r1, 0), asm.callKernelFunction(name), returnZero]);
}

/**
 * Loads a program that converts a pointer into an arena. The verifier requires that the arena has an address. No process
 * maps the arena, so `extra` sets the address.
 */
function loadArenaCast(): Descriptor {
  using arena = descriptorOf(
    probeMap({
      type: "ARENA",
      keySize: 0,
      valueSize: 0,
      maxEntries: 1,
      flags: BPF_F_MMAPABLE,
      extra: 1n << 44n,
    }),
  );
  return load(
    asm.ldMap(r1, arena),
    ...[asm.mov(r2, 0), asm.addrSpaceCast(r2, r2, 0, 1)],
    returnZero,
  );
}

/** Loads a program with an indirect jump through a table with one target, the instruction after the jump. */
function loadIndirectJump(): Descriptor {
  const table = { type: "INSN_ARRAY", keySize: 4, valueSize: 16, maxEntries: 1 } as const;
  using places = descriptorOf(probeMap(table));
  const place = new Uint8Array(table.valueSize);
  // The target is slot 4: loading the table's address takes two slots, the load from it and the jump one each.
  new DataView(place.buffer).setUint32(0, 4, true);
  requireSuccess(probeElement(BPF_MAP_UPDATE_ELEM, places.fd, new Uint8Array(4), place));
  requireSuccess(probeFreeze(places.fd));
  return load(asm.ldMapValue(r0, places, 0), asm.ldxdw(r0, r0, 0), asm.gotox(r0), returnZero);
}

/** A row of {@link instructionSets}: instructions, or a way to use them, that came with one kernel version. */
export interface InstructionSetRow {
  /** The first kernel version that has the instructions. */
  readonly since: KernelVersion;
  readonly isBackported?: boolean;
  readonly config?: readonly string[];
  readonly needs: readonly Capability[];
  /**
   * Loads a program with the instructions.
   *
   * @throws {BpfError | KernelAnswer | Missing} if the kernel refuses.
   */
  readonly load: () => Descriptor;
}

const plain = { needs: ["CAP_BPF"] } as const;
const kernelFunctions = {
  needs: ["CAP_BPF", "CAP_PERFMON", "CAP_NET_ADMIN"],
  config: ["CONFIG_BPF_JIT", "CONFIG_DEBUG_INFO_BTF"],
} as const;

/** Maximum number of instructions of a program before kernel 5.2, which raised it to a million. */
const formerMaxInstructions = 4096;

/** Zeroes the 8 bytes of stack that the programs use. */
const clearStack = asm.stdw(r10, -8, 0);

const rows = {
  less_than_jumps: {
    since: "4.14",
    ...plain,
    load: () => load(asm.mov(r0, 0), asm.jlt(r0, 1, "end"), asm.label("end"), asm.exit()),
  },
  function_calls: {
    since: "4.16",
    ...plain,
    load: () => load(asm.callFunction("zero"), asm.exit(), asm.func("zero"), ...returnZero),
  },
  "32_bit_jumps": {
    since: "5.1",
    ...plain,
    load: () => load(asm.mov(r0, 0), asm.jeq32(r0, 0, "end"), asm.label("end"), asm.exit()),
  },
  map_values: { since: "5.2", ...plain, load: loadMapValue },
  large_programs: {
    since: "5.2",
    ...plain,
    load: () => load(Array<Instruction>(formerMaxInstructions).fill(asm.mov(r0, 0)), asm.exit()),
  },
  bounded_loops: {
    since: "5.3",
    ...plain,
    load: () =>
      load(asm.mov(r0, 0), asm.label("again"), asm.add(r0, 1), asm.jlt(r0, 4, "again"), asm.exit()),
  },
  global_functions: { since: "5.6", ...plain, load: loadExtensible },
  kernel_variables: {
    since: "5.10",
    ...plain,
    config: ["CONFIG_DEBUG_INFO_BTF", "CONFIG_KALLSYMS_ALL"],
    load: loadKernelVariable,
  },
  fetching_atomics: {
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
  kernel_functions: {
    since: sinceByArchitecture({ x64: "5.13", arm64: "5.18" }),
    ...kernelFunctions,
    config: [...kernelFunctions.config, "CONFIG_INET"],
    load: loadKernelFunctionCall,
  },
  sign_extension: {
    since: "6.6",
    ...plain,
    load: () => load(clearStack, asm.ldxsb(r1, r10, -8), asm.movsx8(r1, r1), returnZero),
  },
  byte_swap: {
    since: "6.6",
    ...plain,
    load: () => load(asm.mov(r0, 0), asm.bswap64(r0), returnZero),
  },
  signed_division: {
    since: "6.6",
    ...plain,
    load: () => load(asm.mov(r0, -7), asm.sdiv(r0, 2), asm.smod(r0, 2), returnZero),
  },
  // Stable updates of Linux 6.1 also have long jumps.
  long_jumps: {
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
  may_goto: {
    since: "6.9",
    ...plain,
    load: () =>
      load(
        ...[asm.mov(r0, 0), asm.label("again"), asm.mayGoto("end"), asm.ja("again")],
        ...[asm.label("end"), asm.exit()],
      ),
  },
  arena_casts: {
    since: sinceByArchitecture({ x64: "6.9", arm64: "6.10" }),
    needs: ["CAP_BPF", "CAP_PERFMON"],
    config: ["CONFIG_BPF_JIT", "CONFIG_MMU", "CONFIG_64BIT"],
    load: loadArenaCast,
  },
  acquire_release: {
    since: "6.15",
    ...plain,
    load: () =>
      load(clearStack, asm.loadAcquireDW(r1, r10, -8), asm.storeReleaseDW(r10, -8, r1), returnZero),
  },
  indirect_jumps: {
    since: "6.19",
    ...plain,
    config: ["CONFIG_BPF_JIT"],
    load: loadIndirectJump,
  },
} as const satisfies Readonly<Record<string, InstructionSetRow>>;

/** A group of instructions, or a way to use instructions, that came with one kernel version: `"may_goto"`. */
export type InstructionSet = keyof typeof rows;

/** All groups of instructions, oldest first. */
export const instructionSets: ReadonlyMap<InstructionSet, InstructionSetRow> = new Map(
  Object.entries(rows) as [InstructionSet, InstructionSetRow][],
);

/** Probes a group of instructions by loading a program that uses them. */
export function probeInstructionSet({ load }: InstructionSetRow): ProbeAnswer {
  return attempt(() => load()[Symbol.dispose]());
}
