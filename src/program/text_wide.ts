/** @module A 64-bit immediate as text: a number, or what it refers to. */

import type { Instruction, LiveMap, MapReference } from "./instruction.ts";
import { lddwKind } from "./opcode.ts";

/** The text of an lddw, or `undefined` when its immediate is of no known kind. */
export function wideText(instruction: Instruction, imm: bigint): string | undefined {
  const value = instruction.reference === undefined ? number(instruction, imm) : name(instruction);
  return value === undefined ? undefined : `r${instruction.dst} = ${value}`;
}

function name({ reference }: Instruction): string | undefined {
  switch (reference?.kind) {
    case "map":
      return `map[${mapName(reference.map)}]`;
    case "mapValue":
      return `map[${mapName(reference.map)}][0]+${reference.offset}`;
    case "function":
      return `subprog[${reference.name}]`;
    case "kernelSymbol":
      return `ksym[${reference.name}]`;
    default:
      return undefined;
  }
}

function mapName(map: MapReference): string {
  return typeof map === "string" ? map : liveName(map);
}

/** A map that was closed throws when asked for its descriptor; the text of a program must not. */
function liveName(map: LiveMap): string {
  try {
    return `fd:${map.fd}`;
  } catch {
    return "closed";
  }
}

function number({ src }: Instruction, imm: bigint): string | undefined {
  const low = Number(BigInt.asIntN(32, imm));
  const high = Number(BigInt.asUintN(32, imm >> 32n));
  switch (src) {
    case lddwKind.number:
      return `0x${imm.toString(16)}`;
    case lddwKind.mapFd:
      return `map[fd:${low}]`;
    case lddwKind.mapValue:
      return `map[fd:${low}][0]+${high}`;
    case lddwKind.mapIndex:
      return `map[idx:${low}]`;
    case lddwKind.mapIndexValue:
      return `map[idx:${low}][0]+${high}`;
    case lddwKind.kernelSymbol:
      return high === 0 ? `ksym[btf:${low}]` : `ksym[btf:${low} in fd:${high}]`;
    case lddwKind.function:
      return `subprog[${low < 0 ? "" : "+"}${low}]`;
    default:
      return undefined;
  }
}
