/** @module Maps, programs and links in the kernel: lists of all, or one by its id or the path of a pin. */

import { type Btf, visibleBtf } from "../btf/btf.ts";
import {
  describeAll,
  describeById,
  fdNumber,
  type ObjectKind,
  objectId,
  objectKind,
  openPinned,
  readFdInfo,
} from "../ffi/bpf_object.ts";
import { programTypeName, type ProgramTypeName } from "../ffi/bpf_prog.ts";
import { Descriptor } from "../ffi/descriptor.ts";
import { BpfError } from "../ffi/error.ts";
import { type HandleKind, KernelObject, nouns, openObject } from "../handle/kernel_object.ts";
import { listLinks } from "../link/link.ts";
import type { LinkInfo, TracingLinkInfo } from "../link/link_info.ts";
import { readLinkInfo } from "../link/link_types.ts";
import { type MapInfo, readMapInfo } from "../maps/create.ts";
import { type HeldObject, mapTypes } from "../maps/map_types.ts";
import { listPrograms, type ProgramInfo, readProgramInfo } from "../program/program_info.ts";
import { BPF_F_RDONLY } from "../uapi/bpf.ts";

/** Information about a map, with fields that only /proc/self/fdinfo has. */
export interface InspectedMapInfo extends MapInfo {
  /**
   * The type of the programs that a map of programs accepts: the type of the first program that was stored in the map or
   * used it. `undefined` before that, and for other maps.
   */
  readonly ownerProgramType: ProgramTypeName | undefined;
  /** True if the map accepts JIT-compiled programs, false for interpreted ones; `undefined` if `ownerProgramType` is. */
  readonly ownerJited: boolean | undefined;
}

/** The information about an object, by its kind. */
export interface InfoByKind {
  readonly map: InspectedMapInfo;
  readonly prog: ProgramInfo;
  readonly link: LinkInfo;
}

const readInfo: {
  readonly [Kind in HandleKind]: (fd: number, what: string) => InfoByKind[Kind];
} = { map: readInspectedMap, prog: readProgramInfo, link: readLinkInfo };

function readInspectedMap(fd: number, what: string): InspectedMapInfo {
  const info = readMapInfo(fd, what);
  const held = mapTypes.get(info.type)?.value;
  const more = held !== undefined && valuesWithPrograms.has(held) ? readFdInfo(fd) : undefined;
  const type = more && fdNumber(more, "owner_prog_type");
  const jited = more && fdNumber(more, "owner_jited");
  return {
    ...info,
    ownerProgramType: type === undefined ? undefined : programTypeName(type),
    ownerJited: jited === undefined ? undefined : jited !== 0,
  };
}

/** Kinds of map values that are or contain a program. */
const valuesWithPrograms: ReadonlySet<HeldObject> = new Set(["program", "interface", "CPU queue"]);

const lists: { readonly [Kind in HandleKind]: () => Generator<InfoByKind[Kind]> } = {
  map: () => describeAll("map", readInspectedMap),
  prog: listPrograms,
  link: listLinks,
};

/** Lists all objects of a kind, in the order of their ids (CAP_SYS_ADMIN). */
export function listObjects<Kind extends HandleKind>(kind: Kind): Generator<InfoByKind[Kind]> {
  return lists[kind]();
}

/** Lists all objects of a kind; `undefined` if this process may not list them, or the kernel cannot. */
export function visibleObjects<Kind extends HandleKind>(
  kind: Kind,
): InfoByKind[Kind][] | undefined {
  try {
    return [...listObjects(kind)];
  } catch (error) {
    // Before kernel 5.8 links have no ids, and the command is unknown.
    if (error instanceof BpfError && (error.code === "EPERM" || error.code === "EINVAL")) {
      return undefined;
    }
    throw error;
  }
}

/** Reads the information about the object with an id (CAP_SYS_ADMIN); `undefined` if there is none. */
export function objectById<Kind extends HandleKind>(
  kind: Kind,
  id: number,
): InfoByKind[Kind] | undefined {
  return describeById(kind, id, readInfo[kind]);
}

/** Reads the information about an object as {@link objectById} does; `undefined` also without CAP_SYS_ADMIN. */
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

/**
 * Reads the information about the object that is pinned at a path.
 *
 * @throws {Error} if nothing is pinned there, or an object of another kind.
 */
export function objectByPath<Kind extends HandleKind>(kind: Kind, path: string): InfoByKind[Kind] {
  using descriptor = openPin(kind, path);
  return readInfo[kind](descriptor.fd, descriptor.what);
}

/** Looks up names of functions by type ids. Each BTF is read once, on first use. */
export class FunctionNames {
  readonly #btfs = new Map<number, Btf | undefined>();

  /** Returns the name of a type; `undefined` if this process may not read its BTF, or the BTF was freed. */
  nameOf(btfId: number, typeId: number): string | undefined {
    const btf = this.#btfs.getOrInsertComputed(btfId, () => visibleBtf(btfId));
    if (btf === undefined || typeId >= btf.length) return undefined;
    return btf.type(typeId).name || undefined;
  }

  /** Returns the name of the function to which a tracing link is attached: of the kernel, a module or another program. */
  targetOf({ targetId, targetTypeId, attachType, programId }: TracingLinkInfo): string | undefined {
    if (targetId === undefined || targetTypeId === undefined) return undefined;
    // targetId is the id of a BTF or of a program. Since kernel 6.0 the information about the attached program has the BTF id.
    // Before that a BTF is assumed, because links to functions of other programs are rare.
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

/** Facts about objects, by kind and id. */
export interface ObjectsByKind<T> {
  /** Facts about maps, by map id. */
  readonly maps: ReadonlyMap<number, readonly T[]>;
  /** Facts about programs, by program id. */
  readonly programs: ReadonlyMap<number, readonly T[]>;
  /** Facts about links, by link id. */
  readonly links: ReadonlyMap<number, readonly T[]>;
}

/** Collects facts about objects, by kind and id. */
export class ByKind<T> implements ObjectsByKind<T> {
  readonly maps = new Map<number, T[]>();
  readonly programs = new Map<number, T[]>();
  readonly links = new Map<number, T[]>();

  add(kind: HandleKind, id: number, fact: T): void {
    const table = { map: this.maps, prog: this.programs, link: this.links }[kind];
    table.getOrInsertComputed(id, () => []).push(fact);
  }
}

/**
 * Opens the object that is pinned at a path; a map by default read-only. Checks its kind, because the kernel's information
 * about an object does not contain its kind and has a different layout for each.
 *
 * @throws {Error} if nothing is pinned there, or an object of another kind.
 */
export function openPin(
  kind: HandleKind,
  path: string,
  access: "read" | "write" = "read",
): Descriptor {
  const noun = nouns[kind];
  const fd = access === "read" ? openToRead(kind, path) : openPinned(path, noun);
  if (fd === undefined) throw new Error(`nothing is pinned at ${path}: no such file`);
  const descriptor = new Descriptor(fd, `${noun} pinned at ${path}`);
  try {
    const found = objectKind(descriptor.fd);
    if (found === kind || found === undefined) return descriptor;
    const other = isInspected(found)
      ? describeOther(found, descriptor.fd, path)
      : "another BPF object";
    throw new Error(`the object pinned at ${path} is not a ${noun} but ${other}`);
  } catch (error) {
    descriptor[Symbol.dispose]();
    throw error;
  }
}

function openToRead(kind: HandleKind, path: string): number | undefined {
  const noun = nouns[kind];
  if (kind !== "map") return openPinned(path, noun);
  try {
    return openPinned(path, noun, BPF_F_RDONLY);
  } catch (error) {
    // The kernel rejects the flag for links.
    if (!(error instanceof BpfError) || error.code !== "EINVAL") throw error;
    return openPinned(path, noun);
  }
}

/** A map, program or link of any type, opened to be pinned or unpinned. */
export class OpenedObject extends KernelObject {
  private constructor(kind: HandleKind, descriptor: Descriptor, pinnedAt: string | undefined) {
    super(descriptor, () => objectId(kind, descriptor), pinnedAt);
  }

  /**
   * Opens an object by its id (CAP_SYS_ADMIN) or by the path of a pin.
   *
   * @throws {Error} if there is no object of the kind.
   */
  static open(
    kind: HandleKind,
    origin: { readonly id: number } | { readonly path: string },
  ): OpenedObject {
    if ("path" in origin) {
      return new OpenedObject(kind, openPin(kind, origin.path, "write"), origin.path);
    }
    return new OpenedObject(kind, openObject(kind, origin, nouns[kind]), undefined);
  }

  /** @internal */
  protected override shown(): readonly [className: string, properties: object] {
    return ["OpenedObject", {}];
  }
}

/** Returns true for the kinds of objects that can be listed and shown. */
export function isInspected(kind: ObjectKind | "other" | undefined): kind is HandleKind {
  return kind === "map" || kind === "prog" || kind === "link";
}

/** Describes an object of an unexpected kind, with the command that shows it. */
function describeOther(kind: HandleKind, fd: number, path: string): string {
  const info = readInfo[kind](fd, `${nouns[kind]} pinned at ${path}`);
  // Links have no names: the name in a link's information is that of a tracepoint.
  const name = kind !== "link" && "name" in info && info.name !== "" ? info.name : info.type;
  return `a ${nouns[kind]} (${name}, id ${info.id}): \`bun-bpf ${kind} show ${path}\` shows it`;
}
