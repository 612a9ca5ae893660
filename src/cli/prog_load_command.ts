/** @module The command `bun-bpf prog load`, which loads programs from a file and pins them. */

import { mkdirSync, rmdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { type Command, InvalidArgumentError } from "commander";
import { CommandError, forUser, groupOf } from "./command_line.ts";
import { openReference, parsePath, parseReference, type Reference } from "./object_command.ts";
import { type JsonOption, printJson, withJson } from "./output.ts";
import { readSpec } from "./spec_file.ts";
import { BpfObject } from "../object/bpf_object.ts";
import type { ObjectSpec } from "../object/object_spec.ts";
import type { KernelObject } from "../handle/kernel_object.ts";
import { Program } from "../program/program.ts";
import type { ProgramSpec } from "../program/program_spec.ts";

const help = `
<file> is a script (.ts, .js) or JSON. The script is run; its default export, or with <file>#<name> another
one, is plain data of the library: a ProgramSpec, or an ObjectSpec with maps and programs. A ProgramSpec is
pinned at <path>. For an ObjectSpec, <path> is a folder, which is created if it does not exist: each program
is pinned in it by its name. In names of pins, dots and slashes are replaced by underscores. If a program
cannot be loaded or pinned, nothing stays pinned.

Object files (.o), as clang makes them, are not supported yet.

In JSON, the immediate of an lddw beyond 2^53 - 1 is a string of digits, and bytes are hexadecimal digits.

With --json the document has the keys programs (id, type, name, path) and maps (id, name, and path with
--pin-maps).

Examples:
  bun-bpf prog load execs.ts /sys/fs/bpf/execs
  bun-bpf prog load filters.ts#ingress /sys/fs/bpf/ingress --map counts=/sys/fs/bpf/counts
  bun-bpf prog load monitor.ts /sys/fs/bpf/monitor --pin-maps /sys/fs/bpf/monitor-maps

A script for the first example:
  import { asm, type ProgramSpec } from "bun-bpf";
  export default {
    section: "raw_tp/sched_process_exec",
    license: "GPL",
    name: "execs",
    code: [asm.mov(asm.r0, 0), asm.exit()],
  } satisfies ProgramSpec;`;

interface LoadOptions extends JsonOption {
  readonly map?: ReadonlyMap<string, Reference>;
  readonly pinMaps?: string;
}

/** Adds the command to `bun-bpf prog`, which has to exist. */
export function progLoadCommand(program: Command): void {
  withJson(
    groupOf(program, "prog")
      .command("load")
      .description("load programs from a script or JSON, and pin them")
      .argument("<file>", "a script or JSON, see below")
      .argument("<path>", "the path of the pin, on a BPF file system", parsePath)
      .option(
        "-m, --map <name=map>",
        "the map that a ProgramSpec refers to by this name, by its id, name or pin",
        parseMap,
      )
      .option("--pin-maps <path>", "pin the maps of an ObjectSpec in this folder", parsePath)
      .addHelpText("after", help),
  ).action(load);
}

function parseMap(
  text: string,
  others: ReadonlyMap<string, Reference> | undefined,
): ReadonlyMap<string, Reference> {
  const [, name, map] = /^([^=]+)=(.+)$/s.exec(text) ?? [];
  if (name === undefined || map === undefined) {
    throw new InvalidArgumentError("Expected a name and a map, such as counts=/sys/fs/bpf/counts.");
  }
  return new Map([...(others ?? []), [name, parseReference(map)]]);
}

async function load(source: string, path: string, options: LoadOptions): Promise<void> {
  const { json = false, map, pinMaps } = options;
  const spec = await readSpec(source);
  let loaded: object;
  if (spec.kind === "program") {
    if (pinMaps !== undefined) throw misplaced(source, "--pin-maps", "an ObjectSpec");
    loaded = loadProgram(source, spec.program, path, map ?? new Map());
  } else {
    if (map !== undefined) throw misplaced(source, "--map", "a ProgramSpec");
    loaded = loadObject(source, spec.object, path, pinMaps);
  }
  if (json) printJson(loaded);
}

function misplaced(source: string, option: string, kind: string): CommandError {
  return new CommandError(`${option} is only for ${kind}, which ${source} is not`, {
    isMisuse: true,
  });
}

function loadProgram(
  source: string,
  spec: ProgramSpec,
  path: string,
  references: ReadonlyMap<string, Reference>,
) {
  using opened = new DisposableStack();
  const maps = Object.fromEntries(
    Array.from(references, ([name, map]) => [name, opened.use(openReference("map", map))]),
  );
  const program = opened.use(
    forUser(source, { isMisuse: false }, () => new Program({ ...spec, maps })),
  );
  program.pin(path);
  const { id, type, name } = program;
  return { programs: [{ id, type, name, path }], maps: [] };
}

function loadObject(source: string, spec: ObjectSpec, path: string, mapPath: string | undefined) {
  using object = forUser(source, { isMisuse: false }, () => BpfObject.load(spec));
  using pins = new DisposableStack();
  makeFolder(path, pins);
  if (mapPath !== undefined) makeFolder(mapPath, pins);
  const programs = Array.from(object.programs, ([name, program]) => {
    const { id, type } = program;
    return { id, type, name, path: pinIn(path, name, program, pins) };
  });
  const maps = Array.from(object.maps, ([name, map]) => {
    const { id } = map;
    return { id, name, ...(mapPath !== undefined && { path: pinIn(mapPath, name, map, pins) }) };
  });
  // Everything is pinned: nothing is undone.
  pins.move();
  return { programs, maps };
}

/** Pins an object in a folder, and returns the path of the pin. */
function pinIn(folder: string, name: string, object: KernelObject, pins: DisposableStack): string {
  const path = join(folder, name.replace(/[./]/g, "_"));
  object.pin(path);
  pins.defer(() => object.unpin(path));
  return path;
}

/** Creates a folder for pins, unless it exists. */
function makeFolder(path: string, created: DisposableStack): void {
  if (statSync(path, { throwIfNoEntry: false })?.isDirectory()) return;
  try {
    mkdirSync(path);
  } catch (error) {
    throw new CommandError(`cannot create the folder ${path}: ${(error as Error).message}`);
  }
  created.defer(() => rmdirSync(path));
}
