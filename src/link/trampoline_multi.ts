/** @module Attaches one program to many functions by trampolines: fentry.multi, fexit.multi and fsession.multi (kernel 7.2). */

import * as asm from "../asm/asm.ts";
import { assemble } from "../asm/assembler.ts";
import { Btf } from "../btf/btf.ts";
import { describe } from "../check/describe.ts";
import { type BpfAttr, type BpfCallContext, bpfError } from "../ffi/bpf.ts";
import { createLink } from "../ffi/bpf_link.ts";
import {
  type AttachTypeName,
  attachTypeNumbers,
  programTypeNumbers,
  tryLoadProgram,
} from "../ffi/bpf_prog.ts";
import { Descriptor } from "../ffi/descriptor.ts";
import { BpfError } from "../ffi/error.ts";
import { BPF_PROG_LOAD } from "../uapi/commands.ts";
import { ENOENT } from "../uapi/errno.ts";
import { LINK_CREATE } from "../uapi/layout.ts";
import {
  type AttachKindRow,
  type AttachMethod,
  checkCookies,
  type CookiesOptions,
} from "./attach_method.ts";
import {
  type FunctionPatterns,
  isPattern,
  patternExpression,
  patternList,
  traceableFunctions,
} from "./function_patterns.ts";
import { Link } from "./link.ts";
import { ftrace, testFunction, typed } from "./trampoline.ts";

/** The functions for the sections `fentry.multi`, `fexit.multi` and `fsession.multi`: by name, or by id in the kernel's BTF. */
export type TracedFunctions =
  | {
      /** The names of functions of the kernel, or patterns of names: `"vfs_*"`, `["vfs_read", "vfs_write"]`. */
      readonly functions: FunctionPatterns;
    }
  | {
      /** The ids of functions in the kernel's BTF. */
      readonly ids: readonly number[];
    };

/** Options of `attach()` for the sections `fentry.multi`, `fexit.multi` and `fsession.multi`. */
export type TracedFunctionsOptions = TracedFunctions & CookiesOptions;

/** A function that a program was not attached to. */
export interface SkippedFunction {
  /** The name of the function. */
  readonly name: string;
  /** The reason why programs cannot be attached to it. */
  readonly reason: string;
}

/** A function of the kernel that can be attached to. */
interface Candidate {
  readonly name: string;
  readonly id: number;
}

/**
 * A link of one program to many functions of the kernel.
 *
 * @example
 * ```ts
 * import { asm, features, Program } from "bun-bpf";
 * if (features.attachKinds.get("fentry.multi").available) {
 *   using program = new Program({
 *     section: "fentry.multi/vfs_*",
 *     license: "GPL",
 *     code: [asm.mov(asm.r0, 0), asm.exit()],
 *   });
 *   using link = program.attach();
 *   console.log(link.functions.includes("vfs_read")); // true
 *   for (const { name, reason } of link.skipped) console.log(`${name}: ${reason}`);
 * }
 * ```
 *
 * Requires Linux 7.2.
 */
export class TracingMultiLink extends Link {
  /** The names of the functions that the program is attached to. */
  readonly functions: readonly string[];
  /** The functions that match, but cannot be attached to. */
  readonly skipped: readonly SkippedFunction[];

  /** @internal `program.attach()` makes links. */
  constructor(
    descriptor: Descriptor,
    functions: readonly string[],
    skipped: readonly SkippedFunction[],
  ) {
    super(descriptor);
    this.functions = functions;
    this.skipped = skipped;
  }
}

/** Attaches to functions of the kernel that are named when the program is attached (kernel 7.2). */
export const tracedFunctions: AttachMethod<{
  readonly functions?: FunctionPatterns;
  readonly ids?: readonly number[];
  readonly cookies?: readonly bigint[];
}> = {
  options: ["functions", "ids", "cookies"],
  target: {
    example: "vfs_*",
    pattern: /^[\w.*?]+$/,
    toOptions: (functions) => ({ functions }),
  },
  attach({ program, attachType = "trace_fentry_multi", options: { functions, ids, cookies } }) {
    if ((functions === undefined) === (ids === undefined)) {
      throw new TypeError(
        `attach: expected either the option functions, such as "vfs_*", or the option ids, got ${functions === undefined ? "neither" : "both"}`,
      );
    }
    const btf = Btf.kernel();
    if (ids !== undefined) {
      const candidates = checkIds(btf, ids);
      checkCookies(cookies, ids.length, "function");
      return attach(program.fd, attachType, candidates, [], cookies);
    }
    const patterns = patternList("attach: functions", functions as FunctionPatterns);
    if (cookies !== undefined && patterns.some(isPattern)) {
      throw new TypeError("cookies: expected functions by their names, one for each, not patterns");
    }
    checkCookies(cookies, patterns.length, "function");
    const { found, skipped } = findCandidates(btf, patterns);
    const cookieOf = new Map(cookies?.map((cookie, index) => [patterns[index], cookie]));
    return attachAllowed(program.fd, attachType, found, skipped, cookies && cookieOf);
  },
};

/** Checks that ids are those of different functions. @throws {TypeError | RangeError} if one is not. */
function checkIds(btf: Btf, ids: readonly number[]): Candidate[] {
  if (!Array.isArray(ids) || ids.length === 0) {
    throw new TypeError(`attach: ids: expected a list of type ids, got ${describe(ids)}`);
  }
  const seen = new Set<number>();
  return ids.map((id) => {
    const isType = Number.isInteger(id) && id > 0 && id < btf.length;
    const { kind, name } = isType ? btf.type(id) : { kind: undefined, name: "" };
    if (kind !== "func" || seen.has(id)) {
      throw new RangeError(
        `attach: ids: expected ids of different functions in the kernel's BTF, got ${describe(id)}`,
      );
    }
    seen.add(id);
    return { name, id };
  });
}

/**
 * Finds the functions that match patterns, and sorts out those that cannot be attached to.
 *
 * @throws {BpfError} `ENOENT` if no function has a name, or matches a pattern.
 */
function findCandidates(btf: Btf, patterns: readonly string[]) {
  const ids = new Map<string, number[]>();
  const expressions = patterns.filter(isPattern).map(patternExpression);
  if (expressions.length > 0) {
    for (const id of btf.ids("func")) {
      const { name } = btf.type(id);
      if (expressions.some((expression) => expression.test(name))) {
        ids.getOrInsertComputed(name, () => []).push(id);
      }
    }
  }
  for (const name of patterns) {
    if (isPattern(name)) continue;
    const found = btf.findAll("func", name);
    if (found.length === 0) {
      throw notFound(`This kernel has no function ${name}${btf.suggestion(name, "func")}`);
    }
    ids.set(name, found);
  }
  if (ids.size === 0) throw notFound(`No function of this kernel matches ${patterns.join(", ")}`);
  // Functions by name are rarely refused, so the long list is read only for patterns.
  const traceable = expressions.length > 0 ? traceableFunctions() : undefined;
  const found: Candidate[] = [];
  const skipped: SkippedFunction[] = [];
  for (const [name, [id = 0, ...others]] of ids) {
    const reason =
      others.length > 0
        ? "several functions have this name"
        : traceable?.has(name) === false
          ? notTraceable
          : signatureObstacle(btf, id);
    if (reason === undefined) found.push({ name, id });
    else skipped.push({ name, reason });
  }
  return { found, skipped };
}

const doing = "attach to functions of the kernel";
const notTraceable = "the kernel does not let it be traced (notrace)";

function notFound(hint: string): BpfError {
  return new BpfError({ errno: ENOENT, syscall: "look-up in the kernel's BTF", doing, hint });
}

/** Returns the reason why the kernel passes no arguments of a function to programs (btf_distill_func_proto() in kernel/bpf/btf.c). */
function signatureObstacle(btf: Btf, id: number): string | undefined {
  const maxArguments = 12;
  const maxStructSize = 16;
  const parameters = btf.parameters(id);
  const result = btf.resolve(btf.type(btf.type(id).typeId).typeId);
  if (parameters.at(-1)?.typeId === 0) return "it takes a variable number of arguments";
  if (parameters.length > maxArguments) return `it takes more than ${maxArguments} arguments`;
  if (result.kind === "struct" || result.kind === "union") return "it returns a struct or union";
  return parameters.some(({ typeId }) => btf.sizeOf(typeId) > maxStructSize)
    ? `it takes a struct of more than ${maxStructSize} bytes`
    : undefined;
}

/** Attaches to the functions that the kernel allows; the others are skipped. @throws {BpfError} if it allows none. */
function attachAllowed(
  programFd: number,
  attachType: AttachTypeName,
  found: readonly Candidate[],
  skipped: readonly SkippedFunction[],
  cookies: ReadonlyMap<string | undefined, bigint> | undefined,
): TracingMultiLink {
  const attachTo = (candidates: readonly Candidate[], refused: readonly SkippedFunction[]) => {
    const values = cookies && candidates.map(({ name }) => cookies.get(name) ?? 0n);
    return attach(programFd, attachType, candidates, refused, values);
  };
  requireSome(found, skipped);
  try {
    return attachTo(found, skipped);
  } catch (error) {
    // The kernel attaches to all functions or to none, and does not say which one it refuses.
    if (!isRefusal(error)) throw error;
    const refused = new Set(findRefused(attachType, found));
    if (refused.size === 0) throw error;
    const traceable = traceableFunctions();
    const all = [...skipped];
    for (const { name } of refused) {
      const isTraceable = traceable?.has(name) ?? true;
      all.push({
        name,
        reason: isTraceable ? "the kernel refuses programs of this section for it" : notTraceable,
      });
    }
    const allowed = found.filter((candidate) => !refused.has(candidate));
    requireSome(allowed, all);
    return attachTo(allowed, all);
  }
}

/** Checks that there is a function to attach to. @throws {BpfError} `ENOENT` if all are skipped. */
function requireSome(candidates: readonly Candidate[], skipped: readonly SkippedFunction[]): void {
  const [first] = skipped;
  if (candidates.length > 0 || first === undefined) return;
  throw notFound(
    `None of the functions (${skipped.length}) can be attached to. ${first.name}: ${first.reason}`,
  );
}

/** Returns true for the errors of the kernel for a function that it refuses: EINVAL for its type, ENOENT if it is not traceable. */
function isRefusal(error: unknown): boolean {
  return error instanceof BpfError && (error.code === "EINVAL" || error.code === "ENOENT");
}

/** Greatest number of refused functions that are searched: each takes about 30 system calls. */
const maxRefused = 100;

/** Finds the functions that the kernel refuses, by attaching a program without effects to halves of the list. */
function findRefused(attachType: AttachTypeName, found: readonly Candidate[]): Candidate[] {
  using program = loadWithoutEffects(attachType);
  const refused: Candidate[] = [];
  const search = (candidates: readonly Candidate[]): void => {
    if (refused.length > maxRefused) return;
    try {
      attach(program.fd, attachType, candidates, [], undefined)[Symbol.dispose]();
    } catch (error) {
      if (!isRefusal(error)) throw error;
      if (candidates.length === 1) return void refused.push(...candidates);
      const middle = candidates.length >> 1;
      search(candidates.slice(0, middle));
      search(candidates.slice(middle));
    }
  };
  search(found);
  // Of too many refusals the common cause is another one.
  return refused.length > maxRefused ? [] : refused;
}

function loadWithoutEffects(attachType: AttachTypeName): Descriptor {
  const result = tryLoadProgram(
    {
      type: programTypeNumbers.tracing,
      expectedAttachType: attachTypeNumbers[attachType],
      instructions: assemble([asm.mov(asm.r0, 0), asm.exit()]).bytes,
      license: "GPL",
      name: "",
    },
    0,
  );
  if ("errno" in result) throw bpfError(BPF_PROG_LOAD, result.errno, { doing });
  return new Descriptor(result.fd, "program without effects");
}

const refusal =
  "The kernel refuses at least one of the functions: it takes or returns a type that programs cannot get, or may not be traced";

/** Creates the link. The kernel attaches to all functions or to none. */
function attach(
  fd: number,
  attachType: AttachTypeName,
  candidates: readonly Candidate[],
  skipped: readonly SkippedFunction[],
  cookies: readonly bigint[] | undefined,
): TracingMultiLink {
  const context: BpfCallContext = {
    doing,
    needs: typed.needs,
    hints: {
      EINVAL: refusal,
      ENOENT: refusal,
      EBUSY: "The program is attached to one of these functions already: load it again",
      E2BIG: "These are more functions than the kernel attaches one program to",
    },
  };
  const link = createLink({ fd, attachType }, context, (attr: BpfAttr) => {
    const ids = Uint32Array.from(candidates, ({ id }) => id);
    attr.u32(LINK_CREATE.tracing_multi_cnt, ids.length);
    attr.memory(LINK_CREATE.tracing_multi_ids, new Uint8Array(ids.buffer));
    if (cookies === undefined) return;
    const values = BigUint64Array.from(cookies);
    attr.memory(LINK_CREATE.tracing_multi_cookies, new Uint8Array(values.buffer));
  });
  const section = attachType.replace(/^trace_(\w+)_multi$/, "$1.multi");
  const names = candidates.map(({ name }) => name);
  const what = `${section} link to ${names.length === 1 ? names[0] : `${names.length} functions`}`;
  return new TracingMultiLink(new Descriptor(link, what), names, skipped);
}

const multi = {
  since: "7.2",
  needs: typed.needs,
  config: [...typed.config, ftrace, "CONFIG_HAVE_SINGLE_FTRACE_DIRECT_OPS"],
} as const;

/** The ways to attach in this file, as `features` lists them. */
export const tracedFunctionsKinds = {
  "fentry.multi": { ...multi, section: `fentry.multi/${testFunction}` },
  "fexit.multi": { ...multi, section: `fexit.multi/${testFunction}` },
  "fsession.multi": { ...multi, section: `fsession.multi/${testFunction}` },
} as const satisfies Readonly<Record<string, AttachKindRow>>;
