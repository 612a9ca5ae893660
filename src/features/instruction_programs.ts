/** @module Programs with instructions that need more than a few registers: maps, types, functions of the kernel. */

import { Btf } from "../btf/btf.ts";
import type { Descriptor } from "../ffi/descriptor.ts";
import { probeElement, probeFreeze, probeMap } from "../ffi/probe.ts";
import * as asm from "../program/asm.ts";
import type { Code } from "../program/instruction.ts";
import { BPF_F_MMAPABLE } from "../uapi/bpf.ts";
import { descriptorOf, KernelAnswer, Missing } from "./attempt.ts";
import { loadTrial, returnZero } from "./smallest_program.ts";

const { r0, r1, r2, r3, r4 } = asm;

/** Loads a program that needs nothing but its instructions. @throws {BpfError} */
export function load(...code: Code): Descriptor {
  return loadTrial({ type: "SOCKET_FILTER", code });
}

const array = { type: "ARRAY", keySize: 4, valueSize: 8, maxEntries: 1 } as const;

/** Takes the address of the value of a map. */
export function loadMapValue(): Descriptor {
  using map = descriptorOf(probeMap(array));
  return load(asm.ldMapValue(r1, map, 0), asm.stdw(r1, 0, 1), returnZero);
}

/** Hands a function to a helper, to be called for each value of a map. */
export function loadCallback(): Descriptor {
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

/** Calls a function of the kernel that was the first to be open to programs: to those that are an algorithm of TCP. */
export function loadKernelFunctionCall(): Descriptor {
  return loadTrial({
    type: "STRUCT_OPS",
    target: { kind: "struct", name: "tcp_congestion_ops", member: "undo_cwnd" },
    // The socket, which is the one argument of both.
    code: [asm.ldxdw(r1, r1, 0), asm.callKernelFunction("tcp_reno_undo_cwnd"), asm.exit()],
  });
}

/** Takes the address of a variable of the kernel. */
export function loadKernelVariable(): Descriptor {
  const name = "bpf_prog_active";
  if (Btf.kernel().find("var", name) === undefined) {
    throw new Missing(
      `the kernel's type information does not have the variable ${name}: it was made by a pahole older than 1.18`,
    );
  }
  return load(asm.ldKernelSymbol(r0, name), returnZero);
}

/** Ends a program from anywhere in it. */
export function loadException(): Descriptor {
  return loadTrial({
    type: "SCHED_CLS",
    code: [asm.mov(r1, 0), asm.callKernelFunction("bpf_throw"), returnZero],
  });
}

/** Converts a pointer into an arena, which no process maps: so it has to be told where it would be. */
export function loadArenaCast(): Descriptor {
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

/** Jumps to the one place that a table has: behind the jump itself. */
export function loadIndirectJump(): Descriptor {
  const table = { type: "INSN_ARRAY", keySize: 4, valueSize: 16, maxEntries: 1 } as const;
  using places = descriptorOf(probeMap(table));
  const place = new Uint8Array(table.valueSize);
  // The address of the table takes two slots, the two instructions with it one each.
  new DataView(place.buffer).setUint32(0, 4, true);
  check(probeElement("BPF_MAP_UPDATE_ELEM", places.fd, new Uint8Array(4), place));
  check(probeFreeze(places.fd));
  return load(asm.ldMapValue(r0, places, 0), asm.ldxdw(r0, r0, 0), asm.gotox(r0), returnZero);
}

function check(error: string | undefined): void {
  if (error !== undefined) throw new KernelAnswer(error);
}
