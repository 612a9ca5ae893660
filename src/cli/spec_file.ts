/** @module Files with programs as plain data, for `bun-bpf prog load`. */

import { existsSync, readFileSync } from "node:fs";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { CommandError } from "./command_line.ts";
import { LDDW } from "../asm/encode.ts";
import { describe } from "../check/describe.ts";
import { suggest } from "../check/names.ts";
import type { ObjectSpec } from "../object/object_spec.ts";
import type { ProgramSpec } from "../program/program_spec.ts";

/** A program or a whole object, as plain data. */
export type Spec =
  | { readonly kind: "program"; readonly program: ProgramSpec }
  | { readonly kind: "object"; readonly object: ObjectSpec };

/**
 * Reads a spec from a file: a script (TypeScript or JavaScript), which is run, or JSON.
 *
 * @param source the path of the file; `path#name` for an export of a script other than the default one
 * @throws {CommandError} if the file has no spec.
 */
export async function readSpec(source: string): Promise<Spec> {
  const hash = existsSync(source) ? -1 : source.lastIndexOf("#");
  const path = hash === -1 ? source : source.slice(0, hash);
  const name = hash === -1 ? "default" : source.slice(hash + 1);
  if (isObjectFile(path)) {
    throw new CommandError(
      `cannot load ${path}: it is an object file (ELF), and bun-bpf cannot load object files yet: export the program as a ProgramSpec or ObjectSpec from a script, see \`bun-bpf prog load --help\``,
    );
  }
  const value = path.endsWith(".json")
    ? parseJson(path)
    : exportOf(await importScript(path), path, name);
  const has = (key: string): boolean => typeof value === "object" && value !== null && key in value;
  if (has("code")) return { kind: "program", program: value as ProgramSpec };
  if (has("programs")) return { kind: "object", object: value as ObjectSpec };
  // Bun imports a file of an unknown kind as its path.
  if (value === resolve(path)) {
    throw new CommandError(
      `cannot load ${path}: it is neither a script (.ts, .js) nor JSON (.json), by the end of its name`,
    );
  }
  throw new CommandError(
    `cannot load ${source}: expected a ProgramSpec (with section, code and license) or an ObjectSpec (with programs), got ${describe(value)}`,
  );
}

/** Returns true for ELF files. @throws {CommandError} if the file cannot be read. */
function isObjectFile(path: string): boolean {
  try {
    return readFileSync(path).subarray(0, 4).toString("latin1") === "\x7fELF";
  } catch (error) {
    throw new CommandError(`cannot read ${path}: ${(error as Error).message}`);
  }
}

/** Parses JSON in which, as in the output of this command, large integers are strings, and bytes are hexadecimal digits. */
function parseJson(path: string): unknown {
  try {
    return JSON.parse(readFileSync(path, "utf8"), (key, value: unknown) => {
      if (typeof value === "string" && (key === "contents" || key === "bytes")) {
        return Uint8Array.fromHex(value);
      }
      const isLddw = typeof value === "object" && value !== null && "opcode" in value;
      // The immediate of an lddw has 64 bits.
      if (!isLddw || value.opcode !== LDDW || !("imm" in value)) return value;
      return { ...value, imm: BigInt(value.imm as number | string) };
    });
  } catch (error) {
    throw new CommandError(`cannot parse ${path}: ${(error as Error).message}`);
  }
}

async function importScript(path: string): Promise<Readonly<Record<string, unknown>>> {
  try {
    return (await import(pathToFileURL(resolve(path)).href)) as Record<string, unknown>;
  } catch (error) {
    const { message } = error as Error;
    throw new CommandError(`cannot run ${path}: ${message}`);
  }
}

function exportOf(module: Readonly<Record<string, unknown>>, path: string, name: string): unknown {
  if (Object.hasOwn(module, name)) return module[name];
  const names = Object.keys(module);
  const remedy =
    names.length === 0
      ? "it exports nothing: begin the definition of the program with `export default`"
      : name === "default"
        ? `it has no default export: name one of its exports, as in ${path}#${names[0]}`
        : `it has no export ${JSON.stringify(name)}: ${suggest(name, names)}`;
  throw new CommandError(`cannot load ${path}: ${remedy}`);
}
