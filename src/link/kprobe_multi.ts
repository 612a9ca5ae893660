/** @module Attaches to many kernel functions by one link: to their entries, their returns, or both. */

import { listOf } from "../check/arguments.ts";
import type { BpfCallContext } from "../ffi/bpf.ts";
import { createLink, setNumberArray, setStringArray } from "../ffi/bpf_link.ts";
import type { AttachTypeName } from "../ffi/bpf_prog.ts";
import { Descriptor } from "../ffi/descriptor.ts";
import { BpfError } from "../ffi/error.ts";
import { isKernelSince, type KernelVersion } from "../ffi/kernel.ts";
import { listFunctions, suggestFunction } from "../symbols/functions.ts";
import { BPF_F_KPROBE_MULTI_RETURN } from "../uapi/bpf.ts";
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
  listSkipped,
  matchingFunctions,
  patternList,
  selectFunctions,
} from "./function_patterns.ts";
import { checkAddress, rareFunction } from "./kprobe.ts";
import { Link } from "./link.ts";

/** The target of sections with kprobe.multi: functions by names and patterns, or by addresses. */
export type KprobeMultiTarget =
  | {
      /**
       * Names and patterns of functions. In a pattern, `*` stands for any characters and `?` for one: `"vfs_*"`, or
       * `"nf_tables:nft_*"` for the functions of a module. A pattern stands for all functions that match and can be probed; a
       * name without a module for the first function with this name that can be probed. If there are cookies, a pattern stands
       * for the first function with each name, too.
       */
      readonly functions: FunctionPatterns;
      /** Absent: the functions have names. */
      readonly addresses?: never;
    }
  | {
      /** Addresses of functions in the kernel, as from {@link KernelSymbols.address}. */
      readonly addresses: readonly bigint[];
      /** Absent: the addresses are the target. */
      readonly functions?: never;
    };

/**
 * A link of a program to many functions of the kernel, which `attach()` returns for programs of the sections `kprobe.multi`,
 * `kretprobe.multi` and `kprobe.session`.
 *
 * @example
 * ```ts
 * import { asm, features, type KprobeMultiLink, Program } from "bun-bpf";
 * if (features.attachKinds.get("kprobe.multi").available) {
 *   using program = new Program({
 *     section: "kprobe.multi/vfs_*",
 *     license: "GPL",
 *     code: [asm.mov(asm.r0, 0), asm.exit()],
 *   });
 *   using link: KprobeMultiLink = program.attach();
 *   console.log(link.functions.includes("vfs_read"), link.skipped.length);
 * }
 * ```
 *
 * Requires Linux 5.18.
 */
export class KprobeMultiLink extends Link {
  /**
   * The functions to which the program is attached: `"vfs_read"`, or `"nf_tables:nft_do_chain"` for a function of a module. For
   * a link by addresses, the addresses: `"0xffffffff81000000"`.
   */
  readonly functions: readonly string[];
  readonly #patterns: readonly string[];
  #skipped: readonly string[] | undefined;

  /** @internal `program.attach()` makes links. */
  constructor(
    descriptor: Descriptor,
    functions: readonly string[],
    patterns: readonly string[],
    skipped: readonly string[] | undefined,
  ) {
    super(descriptor);
    this.functions = functions;
    this.#patterns = patterns;
    this.#skipped = skipped;
  }

  /**
   * The functions that match a name or pattern, but cannot be probed: the kernel excludes functions that probes themselves use.
   *
   * For patterns, the first read of this property reads the kernel's table of symbols, which takes 50 to 200 ms.
   */
  get skipped(): readonly string[] {
    this.#skipped ??= listSkipped(this.#patterns, this.functions);
    return this.#skipped;
  }
}

const needs = ["CAP_BPF", "CAP_PERFMON"] as const;

/** Attaches to the entries of many functions, or for sessions to entries and returns (kernel 5.18; sessions 6.10). */
export const kprobeMulti: AttachMethod<KprobeMultiTarget & CookiesOptions> =
  /*@__PURE__*/ method(0);

/** Attaches to the returns of many functions (kernel 5.18). */
export const kretprobeMulti: AttachMethod<KprobeMultiTarget & CookiesOptions> =
  /*@__PURE__*/ method(BPF_F_KPROBE_MULTI_RETURN);

function method(flags: number): AttachMethod<KprobeMultiTarget & CookiesOptions> {
  return {
    options: ["functions", "addresses", "cookies"],
    target: functionsForm,
    attach({ program, attachType = "trace_kprobe_multi", options }) {
      const request = { fd: program.fd, attachType, flags };
      const { functions, addresses, cookies } = options;
      if ((functions === undefined) === (addresses === undefined)) {
        throw new TypeError("attach: expected one of the options functions and addresses");
      }
      return functions === undefined
        ? attachToAddresses(request, addresses, cookies)
        : attachToFunctions(request, functions, cookies);
    },
  };
}

interface Request {
  readonly fd: number;
  readonly attachType: AttachTypeName;
  /** Bits `BPF_F_KPROBE_MULTI_*`. */
  readonly flags: number;
}

/** The places of a link: names or addresses, and a cookie for each. */
interface Places {
  readonly names?: readonly string[];
  readonly addresses?: readonly bigint[];
  readonly cookies?: readonly bigint[] | undefined;
}

function attachToAddresses(
  request: Request,
  given: Iterable<bigint>,
  cookies: readonly bigint[] | undefined,
): KprobeMultiLink {
  const addresses = listOf(given, "attach: addresses");
  if (addresses.length === 0) {
    throw new RangeError("attach: addresses: expected at least one, got an empty list");
  }
  for (const [index, address] of addresses.entries()) {
    checkAddress(`attach: addresses[${index}]`, address);
  }
  checkCookies(cookies, addresses.length, "address");
  const notFunction =
    "One of the addresses is not the start of a function that can be probed (available_filter_functions in tracefs lists them)";
  const doing = `attach to ${counted(addresses.length)}`;
  const fd = create(request, { addresses, cookies }, doing, {
    EINVAL: notFunction,
    ENOENT: notFunction,
    ESRCH: notFunction,
  });
  const names = addresses.map((address) => `0x${address.toString(16)}`);
  return new KprobeMultiLink(new Descriptor(fd, whatOf(names)), names, [], []);
}

function attachToFunctions(
  request: Request,
  given: FunctionPatterns,
  cookies: readonly bigint[] | undefined,
): KprobeMultiLink {
  const all = patternList(given);
  checkCookies(cookies, all.length, "entry of functions");
  // The kernel refuses a name that occurs twice. The first entry that matches a function determines its cookie.
  const patterns = [...new Set(all)];
  const cookieOf = (pattern: number) => cookies?.[all.indexOf(patterns[pattern]!)] ?? 0n;
  const patternCookies = cookies && patterns.map((_, index) => cookieOf(index));
  const doing = `attach to ${patterns.length === 1 ? patterns[0] : `${patterns.length} functions and patterns`}`;
  if (patterns.every(isPlainName)) {
    const fd = createByNames(request, patterns, patternCookies, doing);
    if (fd !== undefined) {
      return new KprobeMultiLink(new Descriptor(fd, whatOf(patterns)), patterns, patterns, []);
    }
  }
  // The addresses in the kernel's list are those of the patched instructions. The kernel finds cookies by the addresses of
  // functions, which can be lower (CONFIG_X86_KERNEL_IBT).
  const selected = selectFunctions(patterns, cookies === undefined);
  if (!("names" in selected)) {
    // Kernels without kprobe.multi say so here. Others know no function with the name of a pattern.
    const fd = create(request, { names: patterns, cookies: patternCookies }, doing, {
      ESRCH: `Not all of these are names of functions that can be probed, and for patterns the list of those is needed: ${selected.unknown}`,
    });
    return new KprobeMultiLink(new Descriptor(fd, whatOf(patterns)), patterns, patterns, []);
  }
  const found = new Set(selected.patterns);
  const unmatched = patterns.filter((_, index) => !found.has(index));
  requireMatches(unmatched, doing);
  if (selected.names.length === 0) {
    throw noFunction(
      doing,
      () =>
        `The kernel has such functions, but none of them can be probed: ${some(matchingFunctions(patterns))}`,
    );
  }
  const { names, addresses } = selected;
  const fd = create(
    request,
    {
      ...(addresses === undefined ? { names: names.map(withoutModule) } : { addresses }),
      cookies: cookies && selected.patterns.map(cookieOf),
    },
    `${doing} (${counted(names.length)})`,
    {},
  );
  // For names only, the skipped ones are those that were not found.
  const skipped = patterns.every(isPlainName) ? unmatched : undefined;
  return new KprobeMultiLink(new Descriptor(fd, whatOf(names)), names, patterns, skipped);
}

/** Attaches to functions by their names. Returns `undefined` if the kernel cannot probe all of them. */
function createByNames(
  request: Request,
  names: readonly string[],
  cookies: readonly bigint[] | undefined,
  doing: string,
): number | undefined {
  try {
    return create(request, { names, cookies }, doing, {});
  } catch (error) {
    const isUnknown = error instanceof BpfError && error.code === "ESRCH";
    if (!isUnknown) throw error;
    return undefined;
  }
}

function create(
  { fd, attachType, flags }: Request,
  { names, addresses, cookies }: Places,
  doing: string,
  hints: Readonly<Record<string, string>>,
): number {
  const since = sinceByType[attachType] ?? "5.18";
  const context: BpfCallContext = {
    doing,
    needs,
    hints: {
      E2BIG: "A link can have at most 2 ** 20 functions",
      ESRCH: "A function was removed meanwhile, with its module",
      EOPNOTSUPP: "This kernel was built without CONFIG_FPROBE, which links to many functions need",
      ...hints,
      ...(!isKernelSince(since) && { EINVAL: tooOld(since) }),
    },
  };
  return createLink({ fd, attachType }, context, (attr) => {
    attr
      .u32(LINK_CREATE.kprobe_multi_flags, flags)
      .u32(LINK_CREATE.kprobe_multi_cnt, (names ?? addresses ?? []).length);
    if (names !== undefined) setStringArray(attr, LINK_CREATE.kprobe_multi_syms, names);
    setNumberArray(attr, LINK_CREATE.kprobe_multi_addrs, addresses);
    setNumberArray(attr, LINK_CREATE.kprobe_multi_cookies, cookies);
  });
}

/** The kernel versions that introduced the attach types. */
const sinceByType: Readonly<Record<string, KernelVersion>> = {
  trace_kprobe_multi: "5.18",
  trace_kprobe_session: "6.10",
};

function tooOld(since: KernelVersion): string {
  return since === "5.18"
    ? 'Links to many functions need Linux 5.18: attach a program of section "kprobe" to each function'
    : `kprobe.session needs Linux ${since}: attach a program each of the sections "kprobe.multi" and "kretprobe.multi"`;
}

/** @throws {BpfError} `ENOENT` if no function of the kernel matches one of the patterns, not even one that cannot be probed. */
function requireMatches(patterns: readonly string[], doing: string): void {
  if (patterns.length === 0) return;
  const functions = listFunctions();
  const unknown = patterns.find((pattern) => matchingFunctions([pattern], functions).length === 0);
  if (unknown === undefined) return;
  throw noFunction(
    doing,
    () => `This kernel has no function ${unknown}: ${suggestFunction(unknown, functions)}`,
  );
}

function noFunction(doing: string, hint: () => string): BpfError {
  return new BpfError({ errno: ENOENT, syscall: "bpf(BPF_LINK_CREATE)", doing, hint });
}

function some(names: readonly string[]): string {
  const most = 5;
  const rest = names.length > most ? ` and ${names.length - most} more` : "";
  return `${names.slice(0, most).join(", ")}${rest}`;
}

function withoutModule(name: string): string {
  return name.slice(name.indexOf(":") + 1);
}

function counted(count: number): string {
  return count === 1 ? "1 function" : `${count} functions`;
}

function whatOf(names: readonly string[]): string {
  return `kprobe_multi link to ${names.length === 1 ? names[0] : counted(names.length)}`;
}

const multi = {
  needs,
  config: ["CONFIG_FPROBE", "CONFIG_BPF_EVENTS"],
} as const;

/** The ways to attach in this file, as `features` lists them. */
export const kprobeMultiKinds = {
  "kprobe.multi": { since: "5.18", ...multi, section: `kprobe.multi/${rareFunction}` },
  "kretprobe.multi": { since: "5.18", ...multi, section: `kretprobe.multi/${rareFunction}` },
  "kprobe.multi_cookie": {
    since: "5.18",
    ...multi,
    section: `kprobe.multi/${rareFunction}`,
    options: { cookies: [1n] },
  },
  "kprobe.session": { since: "6.10", ...multi, section: `kprobe.session/${rareFunction}` },
} as const satisfies Readonly<Record<string, AttachKindRow>>;
