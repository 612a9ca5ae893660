/** @module Types by their names, in the type information of programs and the kernel. */

import { closest } from "../check/names.ts";
import { Btf } from "../btf/btf.ts";
import { BpfError } from "../ffi/error.ts";
import { visibleBtf, visibleObjects } from "./objects.ts";

/** A type in its BTF. */
export interface FoundType {
  readonly btf: Btf;
  readonly id: number;
}

const namedKinds = ["struct", "union", "typedef", "enum", "enum64", "int"] as const;

/**
 * Finds a type by its name, with or without `struct`, `union` or `enum` before it: in these BTFs, and then in the kernel's.
 *
 * @throws {Error} where none has it, with a name that is like it
 */
export function findType(name: string, btfs: readonly Btf[]): FoundType {
  const [, word, plain = ""] = /^(?:(struct|union|enum)\s+)?(.*)$/s.exec(name.trim()) ?? [];
  const kinds = namedKinds.filter((kind) => word === undefined || kind.startsWith(word));
  const all = [...btfs, ...kernelBtf()];
  for (const btf of all) {
    for (const kind of kinds) {
      const [id] = btf.findAll(kind, plain);
      if (id !== undefined) return { btf, id };
    }
  }
  const names = all.flatMap((btf) =>
    kinds.flatMap((kind) => [...btf.ids(kind)].map((id) => btf.type(id).name)),
  );
  const similar = closest(plain, names);
  const hint =
    similar === undefined || similar === "" ? "" : `; did you mean ${JSON.stringify(similar)}?`;
  throw new Error(
    `there is no type ${JSON.stringify(name)}, neither in the programs that use the map nor in the kernel${hint}`,
  );
}

function kernelBtf(): Btf[] {
  try {
    return [Btf.kernel()];
  } catch (error) {
    if (error instanceof BpfError) return [];
    throw error;
  }
}

/** The BTFs of the programs that use a map, as far as this process may read them. */
export function programBtfs(mapId: number): Btf[] {
  const users = visibleObjects("prog")?.filter(({ mapIds = [] }) => mapIds.includes(mapId)) ?? [];
  const ids = new Set(users.map(({ btfId }) => btfId).filter((id) => id !== 0));
  return [...ids].flatMap((id) => visibleBtf(id) ?? []);
}
