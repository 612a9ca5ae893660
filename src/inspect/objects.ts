/** @module One object, by what people call it. */

import { describeById, type ObjectKind, objectKind, openPinned } from "../ffi/bpf_object.ts";
import { Descriptor } from "../ffi/descriptor.ts";
import { BpfError } from "../ffi/error.ts";
import type { LinkInfo } from "../link/info.ts";
import { listLinks } from "../link/list.ts";
import { readLinkInfo } from "../link/read_info.ts";
import { type MapInfo, readMapInfo } from "../maps/handle.ts";
import { listMaps } from "../maps/list.ts";
import { type ProgramInfo, readProgramInfo } from "../program/info.ts";
import { listPrograms } from "../program/list.ts";
import { BPF_F_RDONLY } from "../uapi/bpf.ts";
import type { InspectedKind } from "./by_kind.ts";

/** What the kernel says of the objects of each kind. */
export interface InfoByKind {
  readonly map: MapInfo;
  readonly prog: ProgramInfo;
  readonly link: LinkInfo;
}

/** What the kinds are called. */
export const nouns: Readonly<Record<InspectedKind, string>> = {
  map: "map",
  prog: "program",
  link: "link",
};

const readInfo: {
  readonly [Kind in InspectedKind]: (fd: number, what: string) => InfoByKind[Kind];
} = { map: readMapInfo, prog: readProgramInfo, link: readLinkInfo };

const lists: { readonly [Kind in InspectedKind]: () => Generator<InfoByKind[Kind]> } = {
  map: listMaps,
  prog: listPrograms,
  link: listLinks,
};

/** What the kernel says of all objects of a kind, in the order of their ids. */
export function listObjects<Kind extends InspectedKind>(kind: Kind): Generator<InfoByKind[Kind]> {
  return lists[kind]();
}

/** What the kernel says of the object with this id, or `undefined` when there is none (CAP_SYS_ADMIN). */
export function objectById<Kind extends InspectedKind>(
  kind: Kind,
  id: number,
): InfoByKind[Kind] | undefined {
  return describeById(kind, id, readInfo[kind]);
}

/** The same, and `undefined` also where this process may not see it: whoever opened a pin need not see all else. */
export function visibleObject<Kind extends InspectedKind>(
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

/** What the kernel says of the object pinned at a path. @throws {Error} where there is none, or one of another kind */
export function objectByPath<Kind extends InspectedKind>(
  kind: Kind,
  path: string,
): InfoByKind[Kind] {
  using descriptor = openPin(kind, path);
  return readInfo[kind](descriptor.fd, descriptor.what);
}

/** What is found instead of another kind. */
const otherNouns = {
  map: "a map",
  prog: "a program",
  link: "a link",
  btf: "a BTF",
  other: "something else",
} as const satisfies Record<ObjectKind | "other", string>;

function openPin(kind: InspectedKind, path: string): Descriptor {
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

/** All objects of a kind, or `undefined` where this process may not list them, or the kernel cannot. */
export function visibleObjects<Kind extends InspectedKind>(
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
