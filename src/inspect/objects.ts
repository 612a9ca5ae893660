/** @module Objects that are in the kernel: all of a kind, or one by its id or the path of a pin. */

import { Btf } from "../btf/btf.ts";
import { describeById, type ObjectKind, objectKind, openPinned } from "../ffi/bpf_object.ts";
import { Descriptor } from "../ffi/descriptor.ts";
import { BpfError } from "../ffi/error.ts";
import { type HandleKind, nouns } from "../handle/kernel_object.ts";
import { listLinks } from "../link/link.ts";
import type { LinkInfo, TracingLinkInfo } from "../link/link_info.ts";
import { readLinkInfo } from "../link/link_types.ts";
import { listMaps, type MapInfo, readMapInfo } from "../maps/create.ts";
import { listPrograms, type ProgramInfo, readProgramInfo } from "../program/program_info.ts";
import { BPF_F_RDONLY } from "../uapi/bpf.ts";

/** The information that the kernel gives of an object of each kind. */
export interface InfoByKind {
  readonly map: MapInfo;
  readonly prog: ProgramInfo;
  readonly link: LinkInfo;
}

const readInfo: {
  readonly [Kind in HandleKind]: (fd: number, what: string) => InfoByKind[Kind];
} = { map: readMapInfo, prog: readProgramInfo, link: readLinkInfo };

const lists: { readonly [Kind in HandleKind]: () => Generator<InfoByKind[Kind]> } = {
  map: listMaps,
  prog: listPrograms,
  link: listLinks,
};

/** Lists all objects of a kind, in the order of their ids (CAP_SYS_ADMIN). */
export function listObjects<Kind extends HandleKind>(kind: Kind): Generator<InfoByKind[Kind]> {
  return lists[kind]();
}

/** Lists all objects of a kind; `undefined` where this process may not list them, or the kernel cannot. */
export function visibleObjects<Kind extends HandleKind>(
  kind: Kind,
): InfoByKind[Kind][] | undefined {
  try {
    return [...listObjects(kind)];
  } catch (error) {
    // Links have ids from kernel 5.8 on; before, the command is not known.
    if (error instanceof BpfError && (error.code === "EPERM" || error.code === "EINVAL")) {
      return undefined;
    }
    throw error;
  }
}

/** Reads about the object with this id; `undefined` when there is none (CAP_SYS_ADMIN). */
export function objectById<Kind extends HandleKind>(
  kind: Kind,
  id: number,
): InfoByKind[Kind] | undefined {
  return describeById(kind, id, readInfo[kind]);
}

/** Reads about an object as {@link objectById} does; `undefined` also where this process may not see it. */
export function visibleObject<Kind extends HandleKind>(
  kind: Kind,
  id: number,
): InfoByKind[Kind] | undefined {
  try {
    return objectById(kind, id);
  } catch (error) {
    if (error instanceof BpfError && error.code === "EPERM") return undefined;
    throw error;
  }
}

/** Reads about the object pinned at a path. @throws {Error} where there is none, or one of another kind */
export function objectByPath<Kind extends HandleKind>(kind: Kind, path: string): InfoByKind[Kind] {
  using descriptor = openPin(kind, path);
  return readInfo[kind](descriptor.fd, descriptor.what);
}

/** Names of functions by the ids of their types. Each BTF is read once, and not before it is asked for. */
export class FunctionNames {
  readonly #btfs = new Map<number, Btf | undefined>();

  /** The name of a type of a BTF, or `undefined` where this process may not read it, or it is gone. */
  nameOf(btfId: number, typeId: number): string | undefined {
    const btf = this.#btfs.getOrInsertComputed(btfId, () => visibleBtf(btfId));
    if (btf === undefined || typeId >= btf.length) return undefined;
    return btf.type(typeId).name || undefined;
  }

  /** The name of what a tracing link is attached to: a function of the kernel or a module, or of another program. */
  targetOf({ targetId, targetTypeId, attachType, programId }: TracingLinkInfo): string | undefined {
    if (targetId === undefined || targetTypeId === undefined) return undefined;
    // The same number is a BTF's or a program's. From kernel 5.17 on the attached program tells, as it keeps the BTF that it
    // was loaded for; before, functions of other programs are rare.
    const loadedFor = visibleObject("prog", programId)?.target;
    const isOfBtf =
      attachType !== "ext" && (loadedFor === undefined || loadedFor.btfId === targetId);
    if (isOfBtf) return this.nameOf(targetId, targetTypeId);
    const program = visibleObject("prog", targetId);
    if (program === undefined) return undefined;
    const name = program.btfId === 0 ? undefined : this.nameOf(program.btfId, targetTypeId);
    return name === undefined
      ? `program ${program.id} ${program.name}`
      : `${name} of program ${program.id}`;
  }
}

/** Reads a BTF by its id; `undefined` where this process may not read it, or it is gone. */
export function visibleBtf(id: number): Btf | undefined {
  try {
    return Btf.fromId(id);
  } catch (error) {
    if (error instanceof BpfError && (error.code === "EPERM" || error.code === "ENOENT")) {
      return undefined;
    }
    throw error;
  }
}

/** Facts about the objects of each kind, by their ids. */
export interface ObjectsByKind<T> {
  readonly maps: ReadonlyMap<number, readonly T[]>;
  readonly programs: ReadonlyMap<number, readonly T[]>;
  readonly links: ReadonlyMap<number, readonly T[]>;
}

/** Facts about objects while they are gathered. */
export class ByKind<T> implements ObjectsByKind<T> {
  readonly maps = new Map<number, T[]>();
  readonly programs = new Map<number, T[]>();
  readonly links = new Map<number, T[]>();

  add(kind: HandleKind, id: number, fact: T): void {
    const table = { map: this.maps, prog: this.programs, link: this.links }[kind];
    table.getOrInsertComputed(id, () => []).push(fact);
  }
}

/** The words for what is pinned where another kind was expected. */
const otherNouns = {
  map: "a map",
  prog: "a program",
  link: "a link",
  btf: "a BTF",
  other: "something else",
} as const satisfies Record<ObjectKind | "other", string>;

function openPin(kind: HandleKind, path: string): Descriptor {
  const noun = nouns[kind];
  const what = `${noun} pinned at ${path}`;
  const fd = openPinned(path, noun, kind === "map" ? BPF_F_RDONLY : 0);
  if (fd === undefined) throw new Error(`nothing is pinned at ${path}: no such file`);
  const descriptor = new Descriptor(fd, what);
  const found = objectKind(descriptor.fd);
  if (found === kind || found === undefined) return descriptor;
  descriptor[Symbol.dispose]();
  throw new Error(`what is pinned at ${path} is no ${noun} but ${otherNouns[found]}`);
}
