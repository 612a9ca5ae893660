import { InvalidArgumentError } from "commander";
import type { InspectedKind } from "../inspect/by_kind.ts";
import {
  type InfoByKind,
  listObjects,
  nouns,
  objectById,
  objectByPath,
} from "../inspect/objects.ts";
import { BPF_OBJ_NAME_LEN } from "../uapi/bpf.ts";
import { closest } from "../types/suggestion.ts";
import { CommandError } from "./errors.ts";
import { printable } from "./text.ts";

/** What an object is named by on the command line. */
export type Reference =
  | { readonly by: "id"; readonly id: number }
  | { readonly by: "name"; readonly name: string }
  | { readonly by: "path"; readonly path: string };

/** Understands an argument that names an object. @throws {InvalidArgumentError} */
export function parseReference(text: string): Reference {
  const [, prefix, rest = ""] = /^(id|name|path):(.*)$/s.exec(text) ?? [];
  if (prefix === "id" || (prefix === undefined && /^\d+$/.test(text))) {
    const digits = prefix === undefined ? text : rest;
    const id = Number(digits);
    if (!/^\d+$/.test(digits) || id < 1 || id > 0xffff_ffff) {
      throw new InvalidArgumentError(`Expected an id from 1 to ${0xffff_ffff}.`);
    }
    return { by: "id", id };
  }
  const value = prefix === undefined ? text : rest;
  if (value === "" || value.includes("\0")) {
    throw new InvalidArgumentError("Expected an id, a name or the path of a pin.");
  }
  const isPath = prefix === "path" || (prefix === undefined && value.includes("/"));
  return isPath ? { by: "path", path: value } : { by: "name", name: value };
}

/** What the kernel says of the object that is meant. @throws {CommandError} when there is none, or more than one */
export function findObject<Kind extends InspectedKind>(
  kind: Kind,
  reference: Reference,
): InfoByKind[Kind] {
  switch (reference.by) {
    case "id": {
      const info = objectById(kind, reference.id);
      if (info !== undefined) return info;
      throw new CommandError(`there is no ${nouns[kind]} with the id ${reference.id}`);
    }
    case "name":
      return findByName(kind, reference.name);
    case "path":
      return objectByPath(kind, reference.path);
  }
}

function findByName<Kind extends InspectedKind>(kind: Kind, name: string): InfoByKind[Kind] {
  const noun = nouns[kind];
  if (kind === "link") {
    throw new CommandError(`links have no names: say which by its id or the path of a pin`, {
      isMisuse: true,
    });
  }
  // The kernel keeps no more of a name.
  const kept = name.slice(0, BPF_OBJ_NAME_LEN - 1);
  const objects = [...listObjects(kind)] as (InfoByKind["map"] | InfoByKind["prog"])[];
  const found = objects.filter((info) => info.name === kept);
  const [only] = found;
  if (only === undefined) {
    const similar = closest(
      kept,
      objects.map((info) => info.name),
    );
    const hint =
      similar === undefined || similar === ""
        ? `\`bun-bpf ${kind} list\` shows all`
        : `did you mean ${JSON.stringify(similar)}?`;
    throw new CommandError(
      `there is no ${noun} with the name ${printable(JSON.stringify(name))}: ${hint}`,
    );
  }
  if (found.length > 1) {
    const candidates = found.map(({ id, type }) => `\n  id:${id}  ${type}`);
    throw new CommandError(
      `${found.length} ${noun}s have the name ${JSON.stringify(kept)}: say which by its id${candidates.join("")}`,
    );
  }
  return only as InfoByKind[Kind];
}
