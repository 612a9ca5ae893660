/** @module Finds types by name in the BTF of programs and the kernel. */

import { suggestion } from "../check/names.ts";
import { Btf, visibleBtf } from "../btf/btf.ts";
import { type BtfInfo, readBtfInfo } from "../ffi/bpf_btf.ts";
import { describeAll } from "../ffi/bpf_object.ts";
import { BpfError } from "../ffi/error.ts";
import { visibleObjects } from "./objects.ts";

/** A type in its BTF. */
export interface FoundType {
  /** The BTF that has the type. */
  readonly btf: Btf;
  /** The id of the type in that BTF. */
  readonly id: number;
}

const namedKinds = ["struct", "union", "typedef", "enum", "enum64", "int"] as const;

/**
 * Finds a type by its name, with or without `struct`, `union` or `enum` before it, in the first BTF that has it.
 *
 * @param where a description of the BTFs, for the error
 * @throws {Error} if no BTF has the type; the message suggests a similar name.
 */
export function findType(name: string, btfs: readonly Btf[], where: string): FoundType {
  const [, word, plain = ""] = /^(?:(struct|union|enum)\s+)?(.*)$/s.exec(name.trim()) ?? [];
  const kinds = namedKinds.filter((kind) => word === undefined || kind.startsWith(word));
  for (const btf of btfs) {
    for (const kind of kinds) {
      const [id] = btf.findAll(kind, plain);
      if (id !== undefined) return { btf, id };
    }
  }
  const names = btfs.flatMap((btf) =>
    kinds.flatMap((kind) => [...btf.ids(kind)].map((id) => btf.type(id).name)),
  );
  const hint = suggestion(plain, names);
  const end = hint === undefined ? "" : `: ${hint}`;
  throw new Error(`there is no type ${JSON.stringify(name)} in ${where}${end}`);
}

/** Returns the kernel's BTF in an array, which is empty if the kernel has none. */
export function kernelBtf(): Btf[] {
  try {
    return [Btf.kernel()];
  } catch (error) {
    if (error instanceof BpfError) return [];
    throw error;
  }
}

/** Returns the BTFs of the programs that use a map, as far as this process may read them. */
export function programBtfs(mapId: number): Btf[] {
  const users = visibleObjects("prog")?.filter(({ mapIds = [] }) => mapIds.includes(mapId)) ?? [];
  const ids = new Set(users.map(({ btfId }) => btfId).filter((id) => id !== 0));
  return [...ids].flatMap((id) => visibleBtf(id) ?? []);
}

/** Lists the information about all loaded BTFs, in the order of their ids (kernel 5.4; CAP_SYS_ADMIN). */
export function listBtfs(): Generator<BtfInfo> {
  return describeAll("btf", readBtfInfo);
}
