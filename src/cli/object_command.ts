import type { Command } from "commander";
import type { InspectedKind } from "../inspect/by_kind.ts";
import { type InfoByKind, listObjects } from "../inspect/objects.ts";
import { type Detail, renderDetails } from "./details.ts";
import { HolderIndex, holderCells, holderDetails } from "./holders.ts";
import { printJson, withJson } from "./json.ts";
import { writeOut } from "./output.ts";
import { findObject, parseReference, type Reference } from "./reference.ts";
import { type Column, renderTable } from "./table.ts";

/** What the commands `list` and `show` of a kind of object print. */
export interface ObjectCommand<Kind extends InspectedKind> {
  readonly kind: Kind;
  /** The word for one of them. */
  readonly noun: string;
  /** What an argument that names one is called in the help. */
  readonly argument: string;
  readonly columns: readonly Column[];
  /** A cell for each column, for each object. */
  rows(infos: readonly InfoByKind[Kind][]): string[][];
  /** All that is to say of one, but for who holds it. */
  details(info: InfoByKind[Kind]): readonly Detail[];
  /** What JSON has of one beside what the kernel says and who holds it: related objects. */
  related(info: InfoByKind[Kind]): Readonly<Record<string, unknown>>;
}

/** Adds the commands that all kinds of objects have. */
export function addObjectCommands<Kind extends InspectedKind>(
  group: Command,
  command: ObjectCommand<Kind>,
): void {
  const { kind, noun, argument } = command;
  withJson(group.command("list").description(`list all ${noun}s`)).action((options: JsonOption) =>
    list(command, options),
  );
  withJson(
    group
      .command("show")
      .description(`show all about one ${noun}`)
      .argument(
        argument,
        `its id${kind === "link" ? "" : ", its name"}, or the path of a pin`,
        parseReference,
      ),
  ).action((reference: Reference, options: JsonOption) => show(command, reference, options));
}

/** The option that every command has. */
export interface JsonOption {
  readonly json?: boolean;
}

function list<Kind extends InspectedKind>(
  command: ObjectCommand<Kind>,
  { json = false }: JsonOption,
): void {
  const { kind, columns } = command;
  const infos = [...listObjects(kind)];
  const holders = new HolderIndex(kind);
  if (json) {
    printJson(infos.map((info) => ({ ...info, ...holders.of(info.id) })));
  } else {
    const rows = command
      .rows(infos)
      .map((row, index) => [
        ...row,
        ...holderCells(holders.of((infos[index] as { id: number }).id)),
      ]);
    writeOut(renderTable([...columns, { title: "OWNERS" }, { title: "PINS" }], rows));
  }
  holders.noteHidden();
}

function show<Kind extends InspectedKind>(
  command: ObjectCommand<Kind>,
  reference: Reference,
  { json = false }: JsonOption,
): void {
  const { kind } = command;
  const info = findObject(kind, reference);
  const holders = new HolderIndex(kind);
  const held = holders.of(info.id);
  if (json) printJson({ ...info, ...command.related(info), ...held });
  else writeOut(renderDetails([...command.details(info), ...holderDetails(held)]));
  holders.noteHidden();
}
