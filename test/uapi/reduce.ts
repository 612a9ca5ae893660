/** @module Reads the parts of the headers of a kernel version that src/uapi needs. */

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { homedir, tmpdir } from "node:os";
import { join } from "node:path";
import { Btf } from "../../src/btf/btf.ts";
import { Archive } from "../kernels/archive.ts";
import { packageRoot } from "../support/run.ts";
import { enumerations } from "./enumerations.ts";
import {
  type Constants,
  constantFiles,
  type Layout,
  layoutHeaders,
  layouts,
  syscallNames,
} from "./sources.ts";

/** The parts of the headers of one kernel version that src/uapi needs. */
export interface Reduced {
  /** The version: `"7.2.13"`. */
  readonly linux: string;
  /** Macros and members of enums, by header. */
  readonly constants: Readonly<Record<string, Readonly<Record<string, number>>>>;
  /** Members of enums, by the name of the enum. */
  readonly enums: Readonly<Record<string, Readonly<Record<string, number>>>>;
  /** Offsets of fields and, as `sizeof`, the size, by the name in `layouts`. */
  readonly layouts: Readonly<Record<string, Readonly<Record<string, number>>>>;
  /** Numbers of system calls, by architecture in the spelling of `process.arch`. */
  readonly syscalls: Readonly<Record<string, Readonly<Record<string, number>>>>;
}

/** Folders of the headers of one version, as in Debian's packages. */
interface Headers {
  /** Root of the unpacked package `linux-libc-dev`: the headers for user space. */
  readonly user: string;
  /** Root of the unpacked package `linux-headers-VERSION-common`: the headers that are internal to the kernel. */
  readonly kernel: string;
}

/** Downloads the headers of Debian sid, which has the newest packaged kernel. */
export async function downloadHeaders(): Promise<Headers> {
  const cache = process.env["XDG_CACHE_HOME"] ?? join(homedir(), ".cache");
  const archive = new Archive("sid", "amd64", join(cache, "bun-bpf", "kernels"));
  await archive.update();
  const find = async (name: string, pattern: RegExp): Promise<string> => {
    const found = (await archive.dependencies(name)).find((other) => pattern.test(other));
    if (found === undefined) throw new Error(`package ${name} has no dependency ${pattern}`);
    return found;
  };
  const headers = await find("linux-headers-amd64", /^linux-headers-/);
  return {
    user: await archive.unpacked("linux-libc-dev"),
    kernel: await archive.unpacked(await find(headers, /-common$/)),
  };
}

/** Reads the parts that `sources.ts` names. It evaluates the headers with a C compiler (cc) and objcopy. */
export function reduce({ user, kernel }: Headers): Reduced {
  using compiler = new Compiler(user);
  const version = versionOf(readFileSync(join(user, "usr/include/linux/version.h"), "utf8"));
  const [kernelRoot = ""] = [
    ...new Bun.Glob("usr/src/linux-headers-*-common").scanSync({ cwd: kernel, onlyFiles: false }),
  ];
  if (!kernelRoot.includes(`linux-headers-${version}`)) {
    throw new Error(`the headers are of different versions: ${version}, and ${kernelRoot}`);
  }
  const textOf = (header: string): string => {
    const path = header.startsWith("kernel:")
      ? join(kernel, kernelRoot, "include", header.slice("kernel:".length))
      : join(user, "usr/include", header);
    return withoutComments(readFileSync(path, "utf8"));
  };
  const constants: Record<string, Record<string, number>> = {};
  const enums: Record<string, Record<string, number>> = {};
  const sources = [
    ...Object.values(constantFiles).flatMap(({ groups }) => groups.flatMap(({ from }) => from)),
    ...Object.values(enumerations).flatMap(({ from }) => from),
  ];
  for (const source of sources) {
    const { header } = source;
    const text = textOf(header);
    const type = enumOf(source);
    if (type !== undefined) {
      const names = enumerators(text, type).filter((name) => selects(source, name));
      enums[type] = compiler.values(header, text, names);
    } else {
      const names = identifiers(text).filter((name) => selects(source, name));
      constants[header] = { ...constants[header], ...compiler.values(header, text, names) };
    }
  }
  const btf = compiler.types(Object.values(layouts).map(({ type }) => type));
  return {
    linux: version,
    constants,
    enums,
    layouts: Object.fromEntries(
      Object.entries(layouts).map(([name, layout]) => [name, readLayout(btf, layout)]),
    ),
    syscalls: { x64: readSyscalls(user, "x86"), arm64: readSyscalls(user, "arm64") },
  };
}

/** Returns the name of the enum whose members a source selects, if it selects one. */
export function enumOf({ enum: type, object }: Constants): string | undefined {
  return type ?? object?.enum;
}

/** Returns true if a source selects a name of its header. */
export function selects({ names, object }: Constants, name: string): boolean {
  return name.startsWith(object?.prefix ?? "") && (names?.test(name) ?? true);
}

/** Returns the offset of each field of a struct or union, and its size as `sizeof`. */
export function readLayout(btf: Btf, { type, part, bits = [] }: Layout): Record<string, number> {
  const outer = btf.find("union", type) ?? btf.find("struct", type);
  if (outer === undefined) throw new Error(`there is no struct or union ${type}`);
  const id = part === undefined ? outer : findPart(btf, outer, part);
  return { ...Object.fromEntries(fieldsOf(btf, id, bits)), sizeof: btf.sizeOf(id) };
}

function findPart(btf: Btf, union: number, [first, second]: readonly [string, string?]): number {
  for (const { name, typeId } of btf.members(union)) {
    if (second === undefined && name === first) return typeId;
    if (name !== "" || second === undefined) continue;
    const fields = new Map(fieldsOf(btf, typeId));
    if (fields.has(first) && fields.has(second)) return typeId;
  }
  throw new Error(`there is no part with ${first}`);
}

function fieldsOf(
  btf: Btf,
  typeId: number,
  bits: readonly string[] = [],
  base = 0,
  prefix = "",
): [string, number][] {
  return btf.members(btf.resolve(typeId).id).flatMap((member): [string, number][] => {
    const offset = base + member.bitOffset / 8;
    const inner = btf.resolve(member.typeId);
    const isCompound = inner.kind === "struct" || inner.kind === "union";
    if (member.name === "") return isCompound ? fieldsOf(btf, inner.id, bits, offset, prefix) : [];
    const name = `${prefix}${member.name}`;
    if (member.bitSize !== 0) return bits.includes(name) ? [[`${name}_bit`, offset * 8]] : [];
    if (isCompound) return fieldsOf(btf, inner.id, bits, offset, `${name}_`);
    // Padding moves from version to version.
    return /(^|_)(pad|resv|reserved)(_?\d+)?$/.test(name) ? [] : [[name, offset]];
  });
}

function readSyscalls(user: string, architecture: "x86" | "arm64"): Record<string, number> {
  const header = join(user, `usr/lib/linux/uapi/${architecture}/asm/unistd_64.h`);
  const text = readFileSync(header, "utf8");
  return Object.fromEntries(
    syscallNames.map((name) => {
      const number = new RegExp(`^#define __NR_${name} (\\d+)$`, "m").exec(text)?.[1];
      if (number === undefined) throw new Error(`${header} has no ${name}`);
      return [name, Number(number)];
    }),
  );
}

function versionOf(text: string): string {
  const code = Number(/LINUX_VERSION_CODE (\d+)/.exec(text)?.[1]);
  return `${code >> 16}.${(code >> 8) & 0xff}.${code & 0xff}`;
}

function withoutComments(text: string): string {
  return text.replace(/\/\*[\s\S]*?\*\//g, " ").replace(/\/\/.*$/gm, "");
}

/** Returns the members of an enum, without those that mark its beginning or end. */
function enumerators(text: string, name: string): string[] {
  const body = new RegExp(`\\benum\\s+${name}\\s*\\{([\\s\\S]*?)\\}`).exec(text)?.[1];
  if (body === undefined) throw new Error(`there is no enum ${name}`);
  return membersOf(body).filter((member) => !/^_*MAX_|^__/.test(member));
}

/** Returns all members of enums, and all macros with a value. */
function identifiers(text: string): string[] {
  return [
    ...new Set([
      ...Array.from(text.matchAll(/\benum\b[^{;()]*\{([\s\S]*?)\}/g), ([, body = ""]) =>
        membersOf(body),
      ).flat(),
      // A macro with the name and the number of each helper generates their enum.
      ...Array.from(text.matchAll(/\bFN\((\w+),\s*\d+,/g), ([, name]) => `BPF_FUNC_${name}`),
      ...Array.from(
        text.matchAll(/^[ \t]*#[ \t]*define[ \t]+([A-Za-z_]\w*)(?=[ \t]+\S)/gm),
        ([, name = ""]) => name,
      ),
    ]),
  ];
}

function membersOf(body: string): string[] {
  return body.split(",").flatMap((item) => /^\s*([A-Za-z_]\w*)/.exec(item)?.[1] ?? []);
}

/** Evaluates headers with the machine's C compiler, for x86-64. */
class Compiler implements Disposable {
  readonly #folder = mkdtempSync(join(tmpdir(), "uapi-"));
  readonly #source = join(this.#folder, "source.c");
  readonly #include: readonly string[];

  constructor(user: string) {
    this.#include = ["usr/include", "usr/lib/linux/uapi/x86", "usr/include/x86_64-linux-gnu"]
      .map((folder) => join(user, folder))
      .flatMap((folder) => ["-isystem", folder]);
  }

  /** Returns the values of macros and of members of enums. */
  values(header: string, text: string, names: readonly string[]): Record<string, number> {
    const isInternal = header.startsWith("kernel:");
    const program = join(this.#folder, "program");
    this.#compile(
      [
        `#include <linux/types.h>`,
        // User space cannot include the kernel's internal headers: only the definitions of the names are copied from them.
        ...(isInternal
          ? [
              `#include <linux/const.h>`,
              `#include <linux/fcntl.h>`,
              `#define BIT(nr) (_UL(1) << (nr))`,
              ...new Set(names.map((name) => enumWith(text, name) ?? definition(text, name))),
            ]
          : [`#include <${header}>`]),
        `int printf(const char *, ...);`,
        `int main(void) {`,
        ...names.map((name) => `  printf("%s %lld\\n", "${name}", (long long)(${name}));`),
        `  return 0;`,
        `}`,
      ],
      ["-o", program],
    );
    const lines = run([program]).trim().split("\n");
    return Object.fromEntries(
      lines.map((line) => {
        const [name = "", value = ""] = line.split(" ");
        if (!Number.isSafeInteger(Number(value))) throw new Error(`${name} is ${value}`);
        return [name, Number(value)];
      }),
    );
  }

  /** Returns types of {@link layoutHeaders} as BTF. A variable of each type makes the compiler describe it. */
  types(names: readonly string[]): Btf {
    const object = join(this.#folder, "types.o");
    const section = join(this.#folder, "types.btf");
    this.#compile(
      [
        ...layoutHeaders.map((header) => `#include <${header}>`),
        ...[...new Set(names)].map(
          (name) => `${unions.has(name) ? "union" : "struct"} ${name} a_${name};`,
        ),
      ],
      ["-gbtf", "-c", "-o", object],
    );
    run(["objcopy", "--dump-section", `.BTF=${section}`, object]);
    return Btf.parse(readFileSync(section));
  }

  #compile(lines: readonly string[], options: readonly string[]): void {
    writeFileSync(this.#source, lines.join("\n"));
    run(["cc", ...this.#include, "-w", this.#source, ...options]);
  }

  [Symbol.dispose](): void {
    rmSync(this.#folder, { recursive: true });
  }
}

/** The types in the layouts that are unions. */
const unions: ReadonlySet<string> = new Set(["bpf_attr", "bpf_iter_link_info"]);

/** Returns the definition of the enum that has a member, if there is one: members can depend on those before them. */
function enumWith(text: string, name: string): string | undefined {
  return Array.from(text.matchAll(/\benum\b[^{;()]*\{([\s\S]*?)\}/g))
    .find(([, body = ""]) => membersOf(body).includes(name))
    ?.map((part) => `${part};`)[0];
}

function definition(text: string, name: string): string {
  const pattern = new RegExp(`^\\s*(?:#\\s*define\\s+${name}\\b|${name}\\s*=)([^,\\n]+)`, "m");
  return `#define ${name} ${pattern.exec(text)?.[1]?.trim() ?? ""}`;
}

function run(command: readonly string[]): string {
  const { success, stdout, stderr } = Bun.spawnSync([...command], { cwd: packageRoot });
  if (!success) throw new Error(`${command.join(" ")}: ${stderr.toString()}`);
  return stdout.toString();
}
