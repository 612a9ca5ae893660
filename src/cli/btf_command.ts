/** @module The commands `bun-bpf btf`: type information (BTF) of the kernel, modules, programs and maps. */

import { readFileSync } from "node:fs";
import { type Command, InvalidArgumentError } from "commander";
import { CommandError } from "./command_line.ts";
import { findObject, parseReference, type Reference } from "./object_command.ts";
import {
  abbreviate,
  humanBytes,
  type JsonOption,
  LineWriter,
  printJson,
  renderTable,
  toJson,
  warn,
  withJson,
  writeOut,
} from "./output.ts";
import { suggestion } from "../check/names.ts";
import { Btf, readKernelBtf } from "../btf/btf.ts";
import { cDefinitions } from "../btf/c_header.ts";
import type { BtfGraph, BtfType } from "../btf/graph.ts";
import { visibleObjects } from "../inspect/objects.ts";
import { findType, listBtfs } from "../inspect/types.ts";
import { existsSync, readdirSync } from "../ffi/files.ts";

const help = `
<btf> is the id of a BTF (12, id:12), vmlinux, the name of a module (name:nf_tables), a map or program that
has BTF (map:counts, prog:id:7), or the path of a file with raw BTF (./types.btf).

Without --json the output is a C header, in which each type follows the types that it needs. If several
types have the same name, all but the first get a suffix with a number (___2). Types without a name are
printed only as parts of other types; \`map show\` prints the types of keys and values. With --json the output
is an array of all types in the BTF, in the order of their ids.

Examples:
  bun-bpf btf dump vmlinux >vmlinux.h
  bun-bpf btf dump vmlinux --type task_struct
  bun-bpf btf dump map:counts
  bun-bpf btf dump 12 --json | jq '.[] | select(.kind == "func") | .name'`;

/** Adds the commands of `bun-bpf btf`. */
export function btfCommand(program: Command): void {
  const group = program
    .command("btf")
    .description("type information (BTF) of the kernel, modules, programs and maps")
    .addHelpText("after", "\nExamples:\n  bun-bpf btf list\n  bun-bpf btf dump vmlinux >vmlinux.h");
  withJson(
    group
      .command("list")
      .description("list all BTFs, with the programs and maps that have them")
      .addHelpText(
        "after",
        `
NAME is that of the kernel (vmlinux) or of a module; the BTF of programs and maps has no name.

With --json each BTF has the keys id, name, isKernel (true for vmlinux and modules), size (bytes), programIds
and mapIds.`,
      ),
  ).action(list);
  withJson(
    group
      .command("dump")
      .description("print types as a C header")
      .argument("<btf>", "the BTF, as described below", parseBtfReference)
      .option(
        "-t, --type <name>",
        "print only this struct, union, enum or typedef, and the types that it needs",
      )
      .addHelpText("after", help),
  ).action(dump);
}

function list({ json = false }: JsonOption): void {
  const infos = [...listBtfs()];
  const programs = visibleObjects("prog") ?? [];
  const maps = visibleObjects("map") ?? [];
  const rows = infos.map((info) => ({
    ...info,
    programIds: programs.filter(({ btfId }) => btfId === info.id).map(({ id }) => id),
    mapIds: maps.filter(({ btfId }) => btfId === info.id).map(({ id }) => id),
  }));
  if (json) return printJson(rows);
  const columns = [
    { title: "ID", alignment: "right" },
    { title: "NAME" },
    { title: "SIZE", alignment: "right" },
    { title: "PROGRAMS" },
    { title: "MAPS" },
  ] as const;
  const maxIds = 4;
  writeOut(
    renderTable(
      columns,
      rows.map(({ id, name, size, programIds, mapIds }) => [
        `${id}`,
        name,
        humanBytes(size),
        abbreviate(programIds.map(String), maxIds),
        abbreviate(mapIds.map(String), maxIds),
      ]),
    ),
  );
}

/** A parsed argument that names a BTF. */
type BtfReference = Reference | { readonly by: "map" | "prog"; readonly object: Reference };

function parseBtfReference(text: string): BtfReference {
  const [, kind, object = ""] = /^(map|prog):(.*)$/s.exec(text) ?? [];
  if (kind === "map" || kind === "prog") return { by: kind, object: parseReference(object) };
  if (text === "") throw new InvalidArgumentError("Expected an id, a name or a path.");
  return parseReference(text);
}

/** A BTF, and the id of the first type that is not in its base BTF. */
interface Types {
  readonly btf: Btf;
  readonly first: number;
}

function openBtf(reference: BtfReference): Types {
  switch (reference.by) {
    case "id":
      return byId(reference.id);
    case "map":
    case "prog": {
      const info = findObject(reference.by, reference.object);
      if (info.btfId !== 0) return byId(info.btfId);
      const noun = reference.by === "map" ? "map" : "program";
      throw new CommandError(`the ${noun} ${info.id} has no BTF`);
    }
    case "path":
      return { btf: Btf.parse(readFileSync(reference.path)), first: 1 };
    case "name":
      return byName(reference.name);
  }
}

function byId(id: number): Types {
  const info = [...listBtfs()].find((candidate) => candidate.id === id);
  const isModule = info?.isKernel === true && info.name !== "vmlinux";
  return { btf: Btf.fromId(id), first: isModule ? Btf.kernel().length : 1 };
}

const folder = "/sys/kernel/btf";

function byName(name: string): Types {
  if (name === "vmlinux") return { btf: Btf.kernel(), first: 1 };
  const path = `${folder}/${name}`;
  if (existsSync(path)) {
    const kernel = Btf.kernel();
    return { btf: Btf.parse(readKernelBtf(path), kernel), first: kernel.length };
  }
  const known = existsSync(folder) ? readdirSync(folder) : [];
  const hint = suggestion(name, known) ?? "`bun-bpf btf list` lists all BTFs";
  throw new CommandError(
    `there is no BTF of a module with the name ${JSON.stringify(name)}: ${hint}`,
  );
}

interface DumpOptions extends JsonOption {
  readonly type?: string;
}

function dump(reference: BtfReference, { json = false, type }: DumpOptions): void {
  const { btf, first } = openBtf(reference);
  const ids = type === undefined ? idsFrom(btf, first) : [findType(type, [btf], "this BTF").id];
  using lines = new LineWriter();
  if (json) {
    let pending = "[";
    for (const id of ids) {
      lines.line(pending === "[" ? pending : `${pending},`);
      pending = `  ${toJson(describeType(btf, btf.type(id)))}`;
    }
    lines.line(pending === "[" ? "[]" : `${pending}\n]`);
    return;
  }
  if (type !== undefined) {
    for (const definition of cDefinitions(btf, ids)) lines.line(definition);
    return;
  }
  lines.line(beforeTypes);
  let isEmpty = true;
  for (const definition of cDefinitions(btf, definable(btf, ids))) {
    lines.line(definition);
    isEmpty = false;
  }
  lines.line(afterTypes);
  if (isEmpty) warn("this BTF has no types with names: --json prints all types");
}

/** The lines that bpftool prints before the types. Sources then compile with the header of either tool. */
const beforeTypes = `#ifndef __VMLINUX_H__
#define __VMLINUX_H__

#ifndef BPF_NO_PRESERVE_ACCESS_INDEX
#pragma clang attribute push (__attribute__((preserve_access_index)), apply_to = record)
#endif
`;
const afterTypes = `#ifndef BPF_NO_PRESERVE_ACCESS_INDEX
#pragma clang attribute pop
#endif

#endif /* __VMLINUX_H__ */`;

function* idsFrom({ length }: BtfGraph, first: number): Generator<number> {
  for (let id = first; id < length; id++) yield id;
}

const definableKinds: ReadonlySet<string> = new Set([
  "struct",
  "union",
  "enum",
  "enum64",
  "typedef",
  "fwd",
]);

function* definable(btf: BtfGraph, ids: Iterable<number>): Generator<number> {
  const all = [...ids];
  const used = new Set(all.flatMap((id) => usedBy(btf, btf.type(id))));
  for (const id of all) {
    const { kind, name } = btf.type(id);
    if (!definableKinds.has(kind)) continue;
    // Anonymous types are part of the types that use them. An anonymous enum that no type uses defines names.
    if (name !== "" || (kind.startsWith("enum") && !used.has(id))) yield id;
  }
}

/** Returns the ids of the types that the definition of a type uses. */
function usedBy(btf: BtfGraph, { id, kind, typeId }: BtfType): number[] {
  if (kind === "struct" || kind === "union") return btf.members(id).map((member) => member.typeId);
  if (kind === "func_proto") return [typeId, ...btf.parameters(id).map((part) => part.typeId)];
  return typeId === 0 ? [] : [typeId];
}

/** Describes a type, with the properties of its kind. */
function describeType(btf: BtfGraph, type: BtfType): object {
  const { id, kind, name, size, typeId, length, ...more } = type;
  const known = {
    id,
    kind,
    ...(name === "" ? {} : { name }),
    ...(size === 0 ? {} : { size }),
    ...(typeId === 0 ? {} : { typeId }),
    ...(kind === "array" ? { length } : {}),
    ...more,
  };
  switch (kind) {
    case "struct":
    case "union":
      return { ...known, members: btf.members(id) };
    case "enum":
    case "enum64":
      return { ...known, enumerators: btf.enumerators(id) };
    case "func_proto":
      return { ...known, parameters: btf.parameters(id) };
    case "datasec":
      return { ...known, variables: btf.variables(id) };
    case "int":
      return { ...known, ...btf.integer(id) };
    default:
      return known;
  }
}
