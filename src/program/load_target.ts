/** @module Finds what programs are loaded for: functions and other types of the kernel and its modules, functions of programs. */

import { Btf, modulesWithBtf } from "../btf/btf.ts";
import { suggest, suggestion } from "../check/names.ts";
import { openModuleBtf } from "../ffi/bpf_btf.ts";
import type { Descriptor } from "../ffi/descriptor.ts";
import { BpfError } from "../ffi/error.ts";
import { readFileSync } from "../ffi/files.ts";
import { kernelRelease } from "../ffi/kernel.ts";
import { type FdLike, fdOf } from "../handle/fd_like.ts";
import { findProgramFunction } from "../link/program_function.ts";
import { ENOENT } from "../uapi/errno.ts";
import type { ProgramInfo } from "./program_info.ts";
import type { ProgramBtfSpec } from "./program_spec.ts";
import { type Section, type LoadTarget } from "./sections.ts";

/** The type that a program is loaded for, as BPF_PROG_LOAD takes it. */
export interface FoundTarget {
  /** The id of the type; 0 if the program is not loaded for a type. */
  readonly typeId: number;
  /** The index of the function in a struct of functions. */
  readonly memberIndex?: number;
  /** The descriptor of the program whose function it is, or of the module's BTF; absent for types of the kernel itself. */
  readonly fd?: number;
  /** The BTF of the module, which is closed after the load. */
  readonly module?: Descriptor | undefined;
  /** The types of a program that replaces a function: those of that function. */
  readonly btf?: ProgramBtfSpec;
}

/**
 * Finds the type that programs of a section are loaded for: first in the kernel's BTF, then in that of its modules.
 *
 * @param attachTo the program whose function the section names
 * @param what a description of the loaded program
 * @throws {BpfError} `ENOENT` if neither the kernel nor a loaded module has such a type, or the program has no such function.
 * @throws {TypeError} if programs of the section need another program, or cannot have one.
 */
export function findLoadTarget(
  { name, row, target = "" }: Section,
  attachTo: FdLike | undefined,
  what: string,
): FoundTarget {
  const { loadTarget } = row;
  const doing = `load the ${what}`;
  const isExtension = row.programType === "ext";
  if (attachTo !== undefined) {
    if (row.isForPrograms !== true) {
      throw new TypeError(`attachTo: section "${name}" is not for functions of other programs`);
    }
    const fd = fdOf(attachTo, "attachTo: a program", 1);
    const { typeId, btf } = findProgramFunction(fd, target, doing);
    return { typeId, fd, ...(isExtension && { btf: { bytes: btf, functions: { "": typeId } } }) };
  }
  if (isExtension) {
    throw new TypeError(
      `attachTo: section "${name}" needs the program whose function it replaces, got undefined`,
    );
  }
  // Programs of struct_ops can be loaded only for a function of a struct, so the kernel explains the missing target.
  if (loadTarget === undefined || target === "") return { typeId: 0 };
  const { module, typeName, member } = parseTarget(loadTarget, target);
  const kernel = Btf.kernel();
  // If several types have the name, the kernel uses the first one, too.
  const typeId = module === undefined ? kernel.findAll(loadTarget.kind, typeName)[0] : undefined;
  if (loadTarget.noun === "iterator")
    checkIterator(kernel, typeName.slice(loadTarget.prefix.length), doing);
  if (typeId !== undefined) {
    return { typeId, ...memberOf(kernel, typeId, member, doing) };
  }
  for (const candidate of module === undefined ? modulesWithBtf() : [module]) {
    const btf = readModule(candidate, module !== undefined, doing);
    const own = btf?.findAll(loadTarget.kind, typeName).find((id) => id >= kernel.length);
    if (btf === undefined || own === undefined) continue;
    const place = memberOf(btf, own, member, doing);
    const descriptor = openModuleBtf(candidate);
    // The module was unloaded meanwhile.
    if (descriptor === undefined) continue;
    return { typeId: own, ...place, fd: descriptor.fd, module: descriptor };
  }
  throw notFound(doing, explainMissing(loadTarget, target, typeName, module));
}

/** The prefix of the structs of arguments, of which each iterator has one. */
const iteratorStruct = "bpf_iter__";

/**
 * Checks that the kernel has an iterator. Its functions that implement iterators have names with the prefix of the functions that
 * stand for iterators, too: bpf_iter_run_prog().
 *
 * @throws {BpfError} `ENOENT` if it has none with the name.
 */
function checkIterator(kernel: Btf, name: string, doing: string): void {
  if (kernel.findAll("struct", `${iteratorStruct}${name}`).length > 0) return;
  const near = kernel.suggestion(`${iteratorStruct}${name}`, "struct").replace(iteratorStruct, "");
  throw notFound(doing, `This kernel has no iterator ${name}${near}`);
}

/** The parts of a target: `"nf_nat:nf_nat_init"`, `"vfs_read"`, or `"tcp_congestion_ops.ssthresh"` for a struct of functions. */
function parseTarget({ kind, prefix }: LoadTarget, target: string) {
  const colon = target.indexOf(":");
  const module = colon === -1 ? undefined : target.slice(0, colon);
  const name = target.slice(colon + 1);
  const dot = kind === "struct" ? name.indexOf(".") : -1;
  return {
    module,
    typeName: `${prefix}${dot === -1 ? name : name.slice(0, dot)}`,
    member: dot === -1 ? undefined : name.slice(dot + 1),
  };
}

/** Returns the index of a member of a struct of functions. @throws {BpfError} `ENOENT` if the struct has no such member. */
function memberOf(
  btf: Btf,
  structId: number,
  member: string | undefined,
  doing: string,
): Pick<FoundTarget, "memberIndex"> {
  if (member === undefined) return {};
  const names = btf.members(structId).map(({ name }) => name);
  const memberIndex = names.indexOf(member);
  if (memberIndex !== -1) return { memberIndex };
  const { name } = btf.type(structId);
  throw notFound(doing, `The struct ${name} has no function ${member}: ${suggest(member, names)}`);
}

/** Reads the BTF of a module; `undefined` if it was unloaded meanwhile. */
function readModule(module: string, isNamed: boolean, doing: string): Btf | undefined {
  try {
    return Btf.module(module);
  } catch (error) {
    if (!(error instanceof BpfError) || error.code !== "ENOENT") throw error;
    if (!isNamed) return undefined;
    const loaded = modulesWithBtf();
    const near = suggestion(module, loaded) ?? `${loaded.length} modules have them`;
    throw notFound(
      doing,
      `No module ${module} with type information is loaded, which needs Linux 5.11: ${near}`,
    );
  }
}

function notFound(doing: string, hint: string): BpfError {
  return new BpfError({ errno: ENOENT, syscall: "look-up in the kernel's BTF", doing, hint });
}

/** Explains why neither the kernel nor a module has a type. */
function explainMissing(
  { kind, prefix, noun }: LoadTarget,
  target: string,
  typeName: string,
  module: string | undefined,
): string {
  const owner = module === undefined ? "This kernel" : `The module ${module}`;
  const kernel = Btf.kernel();
  if (module !== undefined && kernel.findAll(kind, typeName).length > 0) {
    return `${owner} has no ${noun} ${typeName.slice(prefix.length)}, but the kernel itself has one: leave out the module`;
  }
  const btf = module === undefined ? kernel : Btf.module(module);
  const near = btf.suggestion(typeName, kind).replace(prefix, "");
  if (noun === "tracepoint") {
    return `${owner} has no tracepoint ${target}, or no type information for it${near}`;
  }
  if (noun === "security hook" && kernel.findAll("func", `${prefix}file_open`).length === 0) {
    return `This kernel (${kernelRelease()}) has no security hooks for BPF: it needs Linux 5.7 and CONFIG_BPF_LSM`;
  }
  if (noun !== "function") return `${owner} has no ${noun} ${typeName.slice(prefix.length)}${near}`;
  const [symbol] = module === undefined ? symbolsOf(typeName) : [];
  if (symbol === undefined) {
    return `${owner} has no function ${typeName}, or the compiler inlined it into its callers${near}`;
  }
  return symbol === typeName
    ? "The function exists, but the kernel's type information does not describe it, for example because it is written in assembly, or because functions with this name differ in their types. Attach a kprobe instead"
    : `The compiler changed the function to ${symbol}, so that its arguments are not known. Attach a kprobe to ${symbol} instead`;
}

/** Returns the kernel's symbols for a function: its name, or names that the compiler derived, such as `"name.constprop.0"`. */
function symbolsOf(name: string): string[] {
  let table: string;
  try {
    table = readFileSync("/proc/kallsyms", "latin1");
  } catch {
    // The caller reports another error, for which the symbols are only a hint.
    return [];
  }
  const pattern = new RegExp(`^\\S+ [tTwW] (${RegExp.escape(name)}(?:\\.\\S+)?)(?=\\s|$)`, "gm");
  return Array.from(table.matchAll(pattern), ([, symbol = ""]) => symbol).sort(
    (one, other) => one.length - other.length,
  );
}

/**
 * Checks that a program was loaded with a section, as far as the kernel reports that.
 *
 * @param what a description of the program, with its article
 * @throws {TypeError} if the kernel reports another type or target.
 */
export function checkLoadedWith(
  { name, row, target }: Section,
  info: ProgramInfo,
  what: string,
): void {
  if (row.programType !== info.type) {
    throw new TypeError(
      `${what} does not fit: its type is ${info.type}, and programs of section "${name}" are ${row.programType}`,
    );
  }
  // Since Linux 6.0, the kernel reports the BTF type for which a program was loaded (attach_btf_id).
  const { loadTarget } = row;
  if (loadTarget === undefined || target === undefined || info.target === undefined) return;
  const { typeName } = parseTarget(loadTarget, target);
  const { btfId, typeId } = info.target;
  const kernel = Btf.kernel();
  if (kernel.findAll(loadTarget.kind, typeName).includes(typeId)) return;
  if (typeId >= kernel.length || row.isForPrograms === true) {
    const loadedFor = targetName(btfId, typeId);
    // The type is one of a module or of another program, which are freed after detaching, and cannot be read by all users.
    if (loadedFor === undefined || loadedFor === typeName) return;
  }
  throw new TypeError(
    `${what} does not fit: it was loaded for another target than that of section "${name}"`,
  );
}

/** Returns the name of a type in any BTF; `undefined` if the BTF cannot be read. */
function targetName(btfId: number, typeId: number): string | undefined {
  try {
    const btf = btfId === 0 ? undefined : Btf.fromId(btfId);
    return btf !== undefined && typeId < btf.length ? btf.type(typeId).name : undefined;
  } catch (error) {
    if (error instanceof BpfError) return undefined;
    throw error;
  }
}
