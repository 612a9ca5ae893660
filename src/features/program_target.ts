/** @module What in the kernel's types a program is loaded for. */

import { Btf } from "../btf/btf.ts";
import { BpfError } from "../ffi/error.ts";
import { errnoNumbers } from "../uapi/errno.ts";

/** What in the kernel's types a program is for. */
export interface ProgramTarget {
  readonly kind: "func" | "var" | "typedef" | "struct";
  readonly name: string;
  /** Of a struct, the member that the program is for. */
  readonly member?: string;
}

/** Where a target is in the kernel's BTF. */
export interface FoundTarget {
  readonly id: number;
  readonly memberIndex: number | undefined;
}

/** The kernel's types stay, and to find one takes as long as to load a few programs. */
const ids = new Map<string, number>();

/** @throws {BpfError} `ENOENT` where the kernel has no such type or member, or no BTF */
export function findTarget({ kind, name, member }: ProgramTarget): FoundTarget {
  const id = kernelTypeId(kind, name);
  if (member === undefined) return { id, memberIndex: undefined };
  const members = Btf.kernel().members(id);
  const memberIndex = members.findIndex((candidate) => candidate.name === member);
  if (memberIndex === -1) throw noSuchType(kind, `${name}.${member}`);
  return { id, memberIndex };
}

/** The id of a type in the kernel's BTF. @throws {BpfError} `ENOENT` where the kernel has no such type, or no BTF */
export function kernelTypeId(kind: ProgramTarget["kind"], name: string): number {
  const key = `${kind} ${name}`;
  const id = ids.get(key) ?? Btf.kernel().find(kind, name);
  if (id === undefined) throw noSuchType(kind, name);
  ids.set(key, id);
  return id;
}

function noSuchType(kind: string, name: string): BpfError {
  return new BpfError({
    errno: errnoNumbers.ENOENT,
    syscall: "look-up in the kernel's BTF",
    doing: `find the ${kind} ${name}`,
  });
}
