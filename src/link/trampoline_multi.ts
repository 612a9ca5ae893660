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
  functionsForm,
  isPlainName,
  matcherOf,
  patternList,
  traceableFunctions,
} from "./function_patterns.ts";
import { Link } from "./link.ts";
import { ftrace, testFunction, typed } from "./trampoline.ts";

/** The functions for the sections `fentry.multi`, `fexit.multi` and `fsession.multi`: by name, or by id in the kernel's BTF. */
export type TracedFunctions =
  | {
      /**
       * Names and patterns of functions of the kernel. In a pattern, `*` stands for any characters and `?` for one: `"vfs_*"`.
       * Functions that cannot be traced are skipped. If more than about 20,000 functions match, and the kernel refuses one of them
       * for another reason, attaching fails.
       */
      readonly functions: FunctionPatterns;
      /** Absent: the functions have names. */
      readonly ids?: never;
    }
  | {
      /** The ids of functions in the kernel's BTF. */
      readonly ids: readonly number[];
      /** Absent: the ids are the target. */
      readonly functions?: never;
    };

/** A function of the kernel to attach to. */
interface Candidate {
  readonly name: string;
  readonly id: number;
  readonly cookie: bigint;
}

/** Functions that a program is not attached to, with the reason. */
type Skipped = ReadonlyMap<string, string>;

/**
 * A link of a program to many functions of the kernel, which `attach()` returns for programs of the sections `fentry.multi`,
 * `fexit.multi` and `fsession.multi`.
 *
 * @example
 * ```ts
 * import { asm, features, Program, type TracingMultiLink } from "bun-bpf";
 * if (features.attachKinds.get("fentry.multi").available) {
 *   using program = new Program({
 *     section: "fentry.multi/vfs_*",
 *     license: "GPL",
 *     code: [asm.mov(asm.r0, 0), asm.exit()],
 *   });
 *   using link: TracingMultiLink = program.attach();
 *   console.log(`attached to ${link.functions.length} functions`);
 *   for (const name of link.skipped) console.log(`${name}: ${link.reasons.get(name)}`);
 * }
 * ```
 *
 * Requires Linux 7.2.
 */
export class TracingMultiLink extends Link {
  /** The functions to which the program is attached: `"vfs_read"`. */
  readonly functions: readonly string[];
  /** The reasons why functions were skipped, by their names. */
  readonly reasons: ReadonlyMap<string, string>;

  /** @internal `program.attach()` makes links. */
  constructor(descriptor: Descriptor, functions: readonly string[], reasons: Skipped) {
    super(descriptor);
    this.functions = functions;
    this.reasons = reasons;
  }

  /** The functions that match a name or pattern, but cannot be attached to. */
  get skipped(): readonly string[] {
    return [...this.reasons.keys()];
  }
}

/** Attaches to functions of the kernel that are named when the program is attached (kernel 7.2). */
export const tracedFunctions: AttachMethod<TracedFunctions & CookiesOptions> = {
  options: ["functions", "ids", "cookies"],
  target: functionsForm,
  attach({ program, attachType = "trace_fentry_multi", options: { functions, ids, cookies } }) {
    if ((functions === undefined) === (ids === undefined)) {
      throw new TypeError("attach: expected one of the options functions and ids");
    }
    const btf = Btf.kernel();
    const place = { programFd: program.fd, attachType, hasCookies: cookies !== undefined };
    if (functions === undefined) {
      checkIds(btf, ids);
      checkCookies(cookies, ids.length, "function");
      const candidates = ids.map((id, index) => ({
        name: btf.type(id).name,
        id,
        cookie: cookies?.[index] ?? 0n,
      }));
      return attach(place, candidates, new Map());
    }
    const patterns = patternList(functions);
    checkCookies(cookies, patterns.length, "entry of functions");
    return attachAllowed(place, ...findCandidates(btf, patterns, cookies));
  },
};

/** Checks that ids are those of different functions. @throws {TypeError | RangeError} if one is not. */
function checkIds(btf: Btf, ids: readonly number[]): void {
  if (!Array.isArray(ids) || ids.length === 0) {
    throw new TypeError(`attach: ids: expected a list of type ids, got ${describe(ids)}`);
  }
  for (const [index, id] of ids.entries()) {
    const isType = Number.isInteger(id) && id > 0 && id < btf.length;
    if (isType && btf.type(id).kind === "func" && ids.indexOf(id) === index) continue;
    throw new RangeError(
      `attach: ids: expected ids of different functions in the kernel's BTF, got ${describe(id)}`,
    );
  }
}

/**
 * Finds the functions that match names and patterns, and sorts out those that cannot be attached to. The first name or pattern that
 * matches a function determines its cookie.
 *
 * @throws {BpfError} `ENOENT` if there is no function for a name or pattern.
 */
function findCandidates(
  btf: Btf,
  patterns: readonly string[],
  cookies: readonly bigint[] | undefined,
): [candidates: Candidate[], skipped: Skipped] {
  const found = new Map<string, { ids: number[]; cookie: bigint }>();
  for (const [index, pattern] of patterns.entries()) {
    const ids = isPlainName(pattern) ? btf.findAll("func", pattern) : matchingIds(btf, pattern);
    if (ids.length === 0 && pattern.includes(":")) {
      throw notFound(`The link cannot have functions of modules, such as ${pattern}`);
    }
    if (ids.length === 0) {
      throw notFound(`This kernel has no function ${pattern}${btf.suggestion(pattern, "func")}`);
    }
    const cookie = cookies?.[index] ?? 0n;
    for (const [name, same] of Map.groupBy(ids, (id) => btf.type(id).name)) {
      if (!found.has(name)) found.set(name, { ids: same, cookie });
    }
  }
  // Functions by name are rarely refused, so the long list is read only for patterns.
  const traceable = patterns.every(isPlainName) ? undefined : traceableFunctions();
  const candidates: Candidate[] = [];
  const skipped = new Map<string, string>();
  for (const [name, { ids, cookie }] of found) {
    const [id = 0, ...others] = ids;
    const reason =
      others.length > 0
        ? "several functions have this name"
        : traceable?.has(name) === false
          ? notTraceable
          : signatureObstacle(btf, id);
    if (reason === undefined) candidates.push({ name, id, cookie });
    else skipped.set(name, reason);
  }
  return [candidates, skipped];
}

function matchingIds(btf: Btf, pattern: string): number[] {
  const matches = matcherOf(pattern);
  return [...btf.ids("func")].filter((id) =>
    matches({ name: btf.type(id).name, module: undefined }),
  );
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

/** The part of a request that is the same for all functions. */
interface Place {
  readonly programFd: number;
  readonly attachType: AttachTypeName;
  readonly hasCookies: boolean;
}

/** Attaches to the functions that the kernel allows; the others are skipped. @throws {BpfError} if it allows none. */
function attachAllowed(
  place: Place,
  candidates: readonly Candidate[],
  skipped: Skipped,
): TracingMultiLink {
  requireSome(candidates, skipped);
  try {
    return attach(place, candidates, skipped);
  } catch (error) {
    // The kernel attaches to all functions or to none, and does not say which one it refuses.
    if (!isRefusal(error)) throw error;
    const found = findRefused(place.attachType, candidates);
    if (found === undefined) {
      const { errno, syscall } = error;
      const hint = `${refusal}. The ${candidates.length} functions are too many to find which: attach to fewer`;
      throw new BpfError({ errno, syscall, doing, hint });
    }
    if (found.length === 0) throw error;
    const refused = new Set(found);
    const traceable = traceableFunctions();
    const all = new Map(skipped);
    for (const { name } of refused) {
      const isTraceable = traceable?.has(name) ?? true;
      all.set(
        name,
        isTraceable ? "the kernel refuses programs of this section for it" : notTraceable,
      );
    }
    const allowed = candidates.filter((candidate) => !refused.has(candidate));
    requireSome(allowed, all);
    return attach(place, allowed, all);
  }
}

/** Checks that there is a function to attach to. @throws {BpfError} `ENOENT` if all are skipped. */
function requireSome(candidates: readonly Candidate[], skipped: Skipped): void {
  if (candidates.length > 0) return;
  const [[name, reason] = []] = skipped;
  throw notFound(`None of the functions (${skipped.size}) can be attached to. ${name}: ${reason}`);
}

/** Returns true for the errors of the kernel for a function that it refuses: EINVAL for its type, ENOENT if it is not traceable. */
function isRefusal(error: unknown): error is BpfError {
  return error instanceof BpfError && (error.code === "EINVAL" || error.code === "ENOENT");
}

/**
 * The greatest work of a search: the number of functions that all its calls pass to the kernel. Each takes up to a millisecond in an
 * emulated machine. The limit suffices to find one function among 20,000, and a hundred among 5000.
 */
const maxWork = 2 ** 16;

/**
 * Finds the functions that the kernel refuses, by attaching a program without effects to halves of the list. Returns `undefined` if
 * that takes too long.
 */
function findRefused(
  attachType: AttachTypeName,
  candidates: readonly Candidate[],
): Candidate[] | undefined {
  // To find one function, the search attaches to the list, both halves, both quarters of one of these, and so on.
  if (3 * candidates.length > maxWork) return undefined;
  using program = loadWithoutEffects(attachType);
  const place = { programFd: program.fd, attachType, hasCookies: false };
  let work = 0;
  const refused: Candidate[] = [];
  const search = (part: readonly Candidate[]): void => {
    work += part.length;
    if (work > maxWork) return;
    try {
      attach(place, part, new Map())[Symbol.dispose]();
    } catch (error) {
      if (!isRefusal(error)) throw error;
      if (part.length === 1) return void refused.push(...part);
      const middle = part.length >> 1;
      search(part.slice(0, middle));
      search(part.slice(middle));
    }
  };
  search(candidates);
  return work > maxWork ? undefined : refused;
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
  { programFd: fd, attachType, hasCookies }: Place,
  candidates: readonly Candidate[],
  skipped: Skipped,
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
    if (!hasCookies) return;
    const values = BigUint64Array.from(candidates, ({ cookie }) => cookie);
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
