/** @module The commands `list`, `show`, `pin` and `unpin` of maps, programs and links. */

import { Argument, type Command, InvalidArgumentError } from "commander";
import { suggestion } from "../check/names.ts";
import { type HandleKind, nouns } from "../handle/kernel_object.ts";
import { CommandError } from "./command_line.ts";
import {
  type Column,
  counted,
  type Detail,
  abbreviate,
  type JsonOption,
  printJson,
  renderDetails,
  renderTable,
  warn,
  withJson,
  writeOut,
} from "./output.ts";
import {
  type InfoByKind,
  listObjects,
  objectById,
  objectByPath,
  type ObjectsByKind,
  OpenedObject,
  visibleObject,
} from "../inspect/objects.ts";
import { type ObjectOwner, type ObjectOwners, objectOwners } from "../inspect/owners.ts";
import { type ObjectPins, objectPins } from "../inspect/pins.ts";
import { Link } from "../link/link.ts";
import { Program } from "../program/program.ts";
import type { ProgramInfo } from "../program/program_info.ts";
import { BPF_OBJ_NAME_LEN } from "../uapi/bpf.ts";

/** A kind of objects for the commands `list` and `show`. */
export interface ObjectCommand<Kind extends HandleKind> {
  readonly kind: Kind;
  readonly columns: readonly Column[];
  /** Makes a row for each object, with a cell for each column. */
  rows(infos: readonly InfoByKind[Kind][]): string[][];
  /** Makes the lines about one object, except those about owners and pins. */
  details(info: InfoByKind[Kind]): readonly Detail[];
  /** Text for the help about the JSON keys, except those that all kinds have. */
  readonly jsonKeys: string;
  /** Finds related objects for the JSON output. */
  related(info: InfoByKind[Kind]): Readonly<Record<string, unknown>>;
}

/** Adds the commands of a kind of objects. */
export function addObjectCommands<Kind extends HandleKind>(
  group: Command,
  command: ObjectCommand<Kind>,
): void {
  const { kind } = command;
  const noun = nouns[kind];
  const keys = `
With --json each ${noun} has the keys ${command.jsonKeys};
owners (processes that have it open), each with pid, comm (the name) and fd; pins (paths). \`show\` also has
notes, texts about missing information, which \`list\` prints on standard error. An unknown property has no
key.`;
  const holders = `
OWNERS are the processes that have a file descriptor of the ${noun}, PINS the paths at which it is pinned.`;
  withJson(
    group
      .command("list")
      .description(`list all ${noun}s`)
      .addHelpText("after", `${holders}\n${keys}`),
  ).action((options: JsonOption) => list(command, options));
  withJson(
    group
      .command("show")
      .description(`show the details of a ${noun}`)
      .addArgument(argumentFor(kind))
      .addHelpText("after", keys),
  ).action((reference: Reference, options: JsonOption) => show(command, reference, options));
  withJson(
    group
      .command("pin")
      .description(`pin a ${noun} to a path, so that it outlives its owners`)
      .addArgument(argumentFor(kind))
      .argument(
        "<path>",
        "a path that does not exist yet, in a directory on a BPF file system",
        parsePath,
      )
      .addHelpText(
        "after",
        `\nWith --json the document has the keys id and path.\n\nExamples:\n  bun-bpf ${kind} pin id:12 /sys/fs/bpf/kept`,
      ),
  ).action((reference: Reference, path: string, options: JsonOption) =>
    pin(kind, reference, path, options),
  );
  withJson(
    group
      .command("unpin")
      .description(`remove a pin of a ${noun}`)
      .argument("<path>", "the path of the pin", parsePath)
      .addHelpText(
        "after",
        `
Other files are never removed. The kernel frees the ${noun} if this was its last pin and nothing else uses it.
With --json the document has the keys id and path.

Examples:
  bun-bpf ${kind} unpin /sys/fs/bpf/kept`,
      ),
  ).action((path: string, options: JsonOption) => unpin(kind, path, options));
}

/** Makes the argument that names an object. */
export function argumentFor(kind: HandleKind): Argument {
  const names = kind === "link" ? "" : ", its name";
  return new Argument(`<${nouns[kind]}>`, `its id${names}, or the path of a pin`).argParser(
    parseReference,
  );
}

/**
 * Parses the path of a pin.
 *
 * @throws {InvalidArgumentError} if it has no slash.
 */
export function parsePath(text: string): string {
  const path = text.replace(/^path:/, "");
  // Text without a slash is probably the name of an object, not a path.
  if (path === "" || path.includes("\0") || (path === text && !path.includes("/"))) {
    throw new InvalidArgumentError(
      "Expected the path of a pin with a slash, such as /sys/fs/bpf/counts or ./counts.",
    );
  }
  return path;
}

function pin(
  kind: HandleKind,
  reference: Reference,
  path: string,
  { json = false }: JsonOption,
): void {
  using object = openReference(kind, reference);
  object.pin(path);
  if (json) printJson({ id: object.id, path });
}

function unpin(kind: HandleKind, path: string, { json = false }: JsonOption): void {
  using object = OpenedObject.open(kind, { path });
  const { id } = object;
  // Another process may have removed the pin meanwhile.
  if (!object.unpin(path)) throw new CommandError(`nothing is pinned at ${path}`);
  if (json) printJson({ id, path });
}

/**
 * Opens an object to change it or its pins.
 *
 * @throws {CommandError} if there is none, or more than one.
 */
export function openReference(kind: HandleKind, reference: Reference): OpenedObject {
  return OpenedObject.open(kind, originOf(kind, reference, { isChange: true }));
}

/**
 * Opens a program.
 *
 * @param options those of {@link originOf}
 * @throws {CommandError} if there is none, or more than one.
 */
export function openProgram(reference: Reference, options?: { isChange: boolean }): Program {
  const origin = originOf("prog", reference, options);
  if ("id" in origin) return Program.fromId(origin.id);
  // This also explains what else is pinned at the path.
  objectByPath("prog", origin.path);
  return Program.open(origin.path);
}

/**
 * Opens a link.
 *
 * @throws {CommandError} if there is none.
 */
export function openLink(reference: Reference): Link {
  const origin = originOf("link", reference, { isChange: true });
  if ("id" in origin) return Link.fromId(origin.id);
  objectByPath("link", origin.path);
  return Link.open(origin.path);
}

/**
 * Finds the object of a reference.
 *
 * @param isChange true to reject a name that is longer than the kernel stores, because it could match several objects
 * @throws {CommandError} if there is none, or more than one.
 */
export function originOf(
  kind: HandleKind,
  reference: Reference,
  { isChange = false } = {},
): { readonly id: number } | { readonly path: string } {
  if (reference.by === "path") return { path: reference.path };
  if (reference.by === "id") return { id: reference.id };
  const maxLength = BPF_OBJ_NAME_LEN - 1;
  if (isChange && Buffer.byteLength(reference.name) > maxLength) {
    throw new CommandError(
      `the kernel stores ${maxLength} characters of a name, and ${JSON.stringify(reference.name)} has more: name the ${nouns[kind]} by its id`,
      { isMisuse: true },
    );
  }
  return { id: findObject(kind, reference).id };
}

function list<Kind extends HandleKind>(
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
  noteIncomplete(holders.notes());
}

function show<Kind extends HandleKind>(
  command: ObjectCommand<Kind>,
  reference: Reference,
  { json = false }: JsonOption,
): void {
  const { kind } = command;
  const info = findObject(kind, reference);
  const holders = new HolderIndex(kind);
  const held = holders.of(info.id);
  const notes = holders.notes();
  if (json) return printJson({ ...info, ...command.related(info), ...held, notes });
  writeOut(renderDetails([...command.details(info), ...holderDetails(held)]));
  noteIncomplete(notes);
}

/** Prints notes about missing output on standard error, even if that is not a terminal. */
export function noteIncomplete(notes: readonly string[]): void {
  for (const text of notes) warn(text);
}

/** A parsed argument that names an object. */
export type Reference =
  | { readonly by: "id"; readonly id: number }
  | { readonly by: "name"; readonly name: string }
  | { readonly by: "path"; readonly path: string };

/**
 * Parses an argument that names an object.
 *
 * @throws {InvalidArgumentError} if it is not an id, a name or a path.
 */
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

/**
 * Reads the information about the object that a reference names.
 *
 * @throws {CommandError} if there is none, or more than one.
 */
export function findObject<Kind extends HandleKind>(
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

function findByName<Kind extends HandleKind>(kind: Kind, name: string): InfoByKind[Kind] {
  const noun = nouns[kind];
  if (kind === "link") {
    throw new CommandError(`links have no names: name the link by its id or the path of a pin`, {
      isMisuse: true,
    });
  }
  // The kernel stores only this part of a name.
  const kept = name.slice(0, BPF_OBJ_NAME_LEN - 1);
  const objects = [...listObjects(kind)] as (InfoByKind["map"] | InfoByKind["prog"])[];
  const found = objects.filter((info) => info.name === kept);
  const [only] = found;
  if (only === undefined) {
    const names = objects.map((info) => info.name);
    const hint = suggestion(kept, names) ?? `\`bun-bpf ${kind} list\` lists all`;
    throw new CommandError(`there is no ${noun} with the name ${JSON.stringify(name)}: ${hint}`);
  }
  if (found.length > 1) {
    const candidates = found.map(({ id, type }) => `\n  id:${id}  ${type}`);
    throw new CommandError(
      `${found.length} ${noun}s have the name ${JSON.stringify(kept)}: name the ${noun} by its id${candidates.join("")}`,
    );
  }
  return only as InfoByKind[Kind];
}

/** The processes and pins that keep an object in the kernel, as far as this process can see them. */
export interface Holders {
  readonly owners: readonly ObjectOwner[];
  readonly pins: readonly string[];
}

/** Finds the processes and pins that keep an object in the kernel, as far as this process can see them. */
export function holdersOf(kind: HandleKind, id: number): Holders {
  return new HolderIndex(kind).of(id);
}

/** Maximum number of owners or pins in a cell of a table. */
const maxInCell = 3;

/** The holders of all objects of a kind. */
class HolderIndex {
  readonly #kind: HandleKind;
  readonly #owners: ObjectOwners;
  readonly #pins: ObjectPins;

  constructor(kind: HandleKind) {
    this.#kind = kind;
    this.#owners = objectOwners();
    this.#pins = objectPins();
  }

  of(id: number): Holders {
    return {
      owners: tableOf(this.#owners, this.#kind).get(id) ?? [],
      pins: tableOf(this.#pins, this.#kind).get(id) ?? [],
    };
  }

  /** Returns notes about owners and pins that this process cannot see. */
  notes(): string[] {
    const { hidden } = this.#owners;
    const places = this.#pins.hidden;
    return [
      ...(hidden > 0
        ? [
            `owners among ${hidden} processes of other users are not shown (this needs CAP_SYS_PTRACE)`,
          ]
        : []),
      ...(places > 0
        ? [
            `pins at or below ${counted(places, "path")} are not shown: this user may not open them (this ` +
              `needs CAP_DAC_OVERRIDE, on older kernels CAP_BPF), or their names are too long, not UTF-8, or too many`,
          ]
        : []),
    ];
  }
}

function tableOf<T>(found: ObjectsByKind<T>, kind: HandleKind): ReadonlyMap<number, readonly T[]> {
  return { map: found.maps, prog: found.programs, link: found.links }[kind];
}

/** Makes the cells of a table for owners and pins. */
function holderCells({ owners, pins }: Holders): [owners: string, pins: string] {
  return [processText(owners), abbreviate(pins, maxInCell)];
}

/** Formats the first processes that have an object open: `bun(17),sh(20)`. */
export function processText(owners: readonly ObjectOwner[]): string {
  const processes = new Map(owners.map(({ pid, comm }) => [pid, `${comm}(${pid})`]));
  return abbreviate([...processes.values()], maxInCell);
}

/** Makes the lines about owners and pins. */
function holderDetails({ owners, pins }: Holders) {
  return [
    ["owners", owners.map(({ pid, comm, fd }) => `${comm}(${pid}) as descriptor ${fd}`)],
    ["pins", pins],
  ] as const;
}

/** Formats a program: `12 exec_counter (tracing)`. */
export function namedProgram({ id, name, type }: ProgramInfo): string {
  return name === "" ? `${id} (${type})` : `${id} ${name} (${type})`;
}

/** Formats the program with an id; only the id if it was unloaded or this process may not see it. */
export function programById(id: number): string {
  const info = visibleObject("prog", id);
  return info === undefined ? `${id}` : namedProgram(info);
}

/** Formats the map with an id, as {@link programById} does. */
export function mapById(id: number): string {
  const info = visibleObject("map", id);
  if (info === undefined) return `${id}`;
  return info.name === "" ? `${id} (${info.type})` : `${id} ${info.name} (${info.type})`;
}
