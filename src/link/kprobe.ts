/** @module Attaches to instructions and returns of kernel functions by kprobes, and to system calls by the functions that implement them. */

import { describe } from "../check/describe.ts";
import { suggestion } from "../check/names.ts";
import type { BpfCallContext } from "../ffi/bpf.ts";
import { BpfError } from "../ffi/error.ts";
import { isKernelSince } from "../ffi/kernel.ts";
import { architecture } from "../ffi/platform.ts";
import {
  findFunctions,
  formatFunction,
  type KernelFunction,
  listFunctions,
  suggestFunction,
} from "../symbols/functions.ts";
import { EADDRNOTAVAIL, ENOENT, EPERM } from "../uapi/errno.ts";
import {
  type AttachKindRow,
  type AttachMethod,
  checkCookie,
  checkTarget,
  type CookieOptions,
  type TargetForm,
} from "./attach_method.ts";
import type { Link, LinkedProgram } from "./link.ts";
import { attachPerfEvent, openProbe } from "./perf_event.ts";

/** The target of sections with kprobes: a function by its name, or an instruction by its address. */
export type KprobeTarget =
  | {
      /**
       * The name of a function of the kernel: `"vfs_read"`, or `"nf_tables:nft_do_chain"` for a function of a module. A name
       * that several functions share is an error, which lists their addresses.
       */
      readonly function: string;
      /** Absent: the function has a name. */
      readonly address?: never;
    }
  | {
      /** The address of an instruction in the kernel, as from {@link KernelSymbols.address}. */
      readonly address: bigint;
      /** Absent: the address is the target. */
      readonly function?: never;
      /** Absent: the address is that of the instruction. */
      readonly offset?: never;
    };

/** Options of `attach()` for the section `kprobe`, besides the function. */
export interface KprobeOptions extends CookieOptions {
  /** The number of bytes from the start of the function to the probed instruction. @default 0 */
  readonly offset?: number;
}

/** The target of the sections `ksyscall` and `kretsyscall`. */
export interface KsyscallTarget {
  /** The name of a system call: `"openat"`. */
  readonly syscall: string;
}

type ProbeOptions = CookieOptions & {
  readonly function?: string;
  readonly address?: bigint;
  readonly offset?: number;
};

const functionPattern = /^[^\s\0+]+$/;

/** The form of a target: a name, and the number of bytes from the start of the function. */
const placeForm: TargetForm = {
  example: "vfs_read+8",
  pattern: /^[^\s\0+]+(\+(0x[0-9a-f]+|\d+))?$/i,
  toOptions(target) {
    const [name = "", offset] = target.split("+");
    return offset === undefined ? { function: name } : { function: name, offset: Number(offset) };
  },
};

const functionForm: TargetForm = {
  example: "vfs_read",
  pattern: functionPattern,
  toOptions: (name) => ({ function: name }),
};

const syscallForm: TargetForm = {
  example: "openat",
  pattern: /^\w+$/,
  toOptions: (syscall) => ({ syscall }),
};

/** Attaches to an instruction of a kernel function (kernel 4.17). */
export const kprobe: AttachMethod<KprobeTarget & KprobeOptions> = {
  options: ["function", "offset", "address", "cookie"],
  target: placeForm,
  attach: ({ program, options }) => attachKprobe(program, options, false),
};

/** Attaches to the return of a kernel function (kernel 4.17). */
export const kretprobe: AttachMethod<KprobeTarget & CookieOptions> = {
  options: ["function", "address", "cookie"],
  target: functionForm,
  attach: ({ program, options }) => attachKprobe(program, options, true),
};

/** Attaches to the function that implements a system call (kernel 4.17). */
export const ksyscall: AttachMethod<KsyscallTarget & CookieOptions> =
  /*@__PURE__*/ ksyscallMethod(false);

/** Attaches to the return of the function that implements a system call (kernel 4.17). */
export const kretsyscall: AttachMethod<KsyscallTarget & CookieOptions> =
  /*@__PURE__*/ ksyscallMethod(true);

const needs = ["CAP_BPF", "CAP_PERFMON"] as const;

/** A place for a kprobe. */
interface Place {
  /** The place in messages: `"the function vfs_read+0x8"`. */
  readonly text: string;
  /** The name of the function; `undefined` for an address. */
  readonly function?: string;
  /** Bytes from the start of the function, or the address. */
  readonly offset: bigint;
  readonly hints: BpfCallContext["hints"];
}

function attachKprobe(program: LinkedProgram, options: ProbeOptions, isReturn: boolean): Link {
  checkCookie(options.cookie);
  const place = findPlace(options);
  return attachTo(program, place, options.cookie, isReturn);
}

function attachTo(
  program: LinkedProgram,
  { text, function: target, offset, hints }: Place,
  cookie: bigint | undefined,
  isReturn: boolean,
): Link {
  const doing = `attach to ${isReturn ? "the return of " : ""}${text}`;
  const what = `${isReturn ? "kretprobe" : "kprobe"} link to ${text.replace(/^the (system )?\w+ /, "")}`;
  const event = openProbe(
    { source: "kprobe", isReturn, target, offset },
    { doing, hints: { ...(isReturn ? returnHints : placeHints), ...hints } },
    what,
  );
  return attachPerfEvent(program, event, cookie, {
    doing,
    needs,
    hints: {
      EINVAL:
        "Programs that call override_return need the start of a function that is in /sys/kernel/debug/error_injection/list",
    },
  });
}

const blacklist =
  "the function is one of those in which probes would be recursive (/sys/kernel/debug/kprobes/blacklist)";
const placeHints = {
  EINVAL: `The kernel allows no probe there: it is outside of functions, the kernel itself changes the instruction (a jump label), or ${blacklist}`,
  EILSEQ: "This is not the start of an instruction",
};
const returnHints = {
  ...placeHints,
  EINVAL: `The kernel allows no probe of this return: this is not the start of a function, or ${blacklist}`,
};

/** @throws {TypeError | RangeError | BpfError} if the options do not name one place. */
function findPlace({ function: name, address, offset = 0 }: ProbeOptions): Place {
  if ((name === undefined) === (address === undefined)) {
    throw new TypeError("attach: expected one of the options function and address");
  }
  if (!Number.isSafeInteger(offset) || offset < 0) {
    throw new RangeError(
      `attach: offset: expected a number of bytes of at least 0, got ${describe(offset)}`,
    );
  }
  if (address !== undefined) {
    checkAddress("attach: address", address);
    if (offset !== 0) {
      throw new TypeError("attach: offset: expected none with an address: add it to the address");
    }
    return addressPlace(`the address ${hex(address)}`, address);
  }
  checkTarget("attach: function", functionForm, name);
  const given = name as string;
  const text = `the function ${given}${offset === 0 ? "" : `+${hex(offset)}`}`;
  const colon = given.indexOf(":");
  if (colon !== -1) {
    // The kernel finds such names in some versions only, but an address in all of them.
    const found = findInModule(given.slice(0, colon), given.slice(colon + 1), text);
    return addressPlace(text, found + BigInt(offset));
  }
  if (!isKernelSince("6.7")) refuseShared(given, text);
  return {
    text,
    function: given,
    offset: BigInt(offset),
    hints: {
      ENOENT: () => explainUnknown(given),
      EADDRNOTAVAIL: () => explainShared(findFunctions(given)),
    },
  };
}

function addressPlace(text: string, address: bigint): Place {
  return {
    text,
    offset: address,
    hints: { ENOENT: "This is not an address of the kernel's code" },
  };
}

/** Checks an address of the kernel. @throws {TypeError | RangeError} if it is not a bigint of 64 bits. */
export function checkAddress(argument: string, address: unknown): void {
  if (typeof address !== "bigint") {
    throw new TypeError(
      `${argument}: expected an address as a bigint, got ${describe(address)}: a number cannot hold all of its 64 bits`,
    );
  }
  if (address <= 0n || address !== BigInt.asUintN(64, address)) {
    throw new RangeError(
      `${argument}: expected an address from 1n to 2n ** 64n - 1n, got ${describe(address)}`,
    );
  }
}

function hex(number: number | bigint): string {
  return `0x${number.toString(16)}`;
}

/** Returns the address of a function of a module. @throws {BpfError} unless the module has one function with the name. */
function findInModule(module: string, name: string, text: string): bigint {
  const all = findFunctions(name);
  const found = all.filter((each) => each.module === module);
  const [first] = found;
  if (first === undefined || found.length > 1) {
    throw functionError(first === undefined ? ENOENT : EADDRNOTAVAIL, text, () =>
      first === undefined ? explainUnknown(`${module}:${name}`) : explainShared(found),
    );
  }
  if (first.address === 0n) {
    throw functionError(
      EPERM,
      text,
      () => `Functions of modules are found by their addresses. ${hiddenAddresses}`,
    );
  }
  return first.address;
}

/**
 * Checks that a name is that of one function. The kernel does so since Linux 6.7, and in some older stable versions. Others
 * take the first function.
 *
 * @throws {BpfError} `EADDRNOTAVAIL` if several functions have the name.
 */
function refuseShared(name: string, text: string): void {
  const found = findFunctions(name);
  if (found.length > 1) throw functionError(EADDRNOTAVAIL, text, () => explainShared(found));
}

/** Returns an error as the kernel's own for a function. */
function functionError(errno: number, text: string, hint: () => string): BpfError {
  return new BpfError({ errno, syscall: "perf_event_open", doing: `attach to ${text}`, hint });
}

const hiddenAddresses =
  "The kernel hides addresses from this process: run as root with CAP_SYSLOG, where /proc/sys/kernel/kptr_restrict is 0 or 1";

/** Explains that several functions have a name, and lists them. */
function explainShared(found: readonly KernelFunction[]): string {
  const most = 12;
  const listed = found
    .slice(0, most)
    .map(({ address, module }) => `${hex(address)}${module === undefined ? "" : ` [${module}]`}`);
  const rest = found.length > most ? ` and ${found.length - most} more` : "";
  const count = `${found.length} functions have this name`;
  return found.every(({ address }) => address === 0n)
    ? `${count}. ${hiddenAddresses}, and pass the address of one as the option address`
    : `${count}: ${listed.join(", ")}${rest}. Pass the address of one as the option address, or attach a program of section "kprobe.multi" to all`;
}

/** Explains that a function is unknown, with a similar name. */
function explainUnknown(given: string): string {
  const functions = listFunctions();
  const exists = functions.some((each) => given === each.name || given === formatFunction(each));
  if (exists) return `The place is outside of the function ${given}`;
  const elsewhere = functions.find(({ name }) => given.endsWith(`:${name}`));
  const hint =
    elsewhere === undefined
      ? suggestFunction(given, functions)
      : `did you mean ${JSON.stringify(formatFunction(elsewhere))}?`;
  return `This kernel has no function ${given}: ${hint}`;
}

/**
 * The prefixes of the functions that implement system calls: of those that get the registers of the caller (Linux 4.17; 4.19 on
 * arm64), and of those that get the arguments, on older kernels.
 */
const syscallPrefixes = [
  `__${architecture === "x64" ? "x64" : "arm64"}_sys_`,
  "__se_sys_",
] as const;

function ksyscallMethod(isReturn: boolean): AttachMethod<KsyscallTarget & CookieOptions> {
  return {
    options: ["syscall", "cookie"],
    target: syscallForm,
    attach({ program, options: { syscall, cookie } }) {
      checkTarget("attach: syscall", syscallForm, syscall);
      checkCookie(cookie);
      const place = {
        text: `the system call ${syscall}`,
        offset: 0n,
        hints: { ENOENT: () => explainUnknownSyscall(syscall) },
      };
      const [wrapper, plain] = syscallPrefixes;
      try {
        return attachTo(program, { ...place, function: wrapper + syscall }, cookie, isReturn);
      } catch (error) {
        const isUnknown = error instanceof BpfError && error.code === "ENOENT";
        if (!isUnknown || error.syscall !== "perf_event_open" || !hasFunction(plain + syscall)) {
          throw error;
        }
        return attachTo(program, { ...place, function: plain + syscall }, cookie, isReturn);
      }
    },
  };
}

function hasFunction(name: string): boolean {
  return findFunctions(name).length > 0;
}

function explainUnknownSyscall(syscall: string): string {
  const names = listFunctions().flatMap(({ name }) => {
    const prefix = syscallPrefixes.find((each) => name.startsWith(each));
    return prefix === undefined ? [] : [name.slice(prefix.length)];
  });
  const hint = suggestion(syscall, new Set(names));
  return `This kernel has no system call ${syscall}${hint === undefined ? ', or it is implemented by a function with another name: attach to that by the section "kprobe"' : `: ${hint}`}`;
}

const kprobes = {
  since: "4.17",
  needs,
  config: ["CONFIG_KPROBE_EVENTS", "CONFIG_BPF_EVENTS"],
} as const;

/** A function of all kernels since 4.17 that only sync(2) calls. */
export const rareFunction = "ksys_sync";

/** The ways to attach in this file, as `features` lists them. */
export const kprobeKinds = {
  kprobe: { ...kprobes, section: `kprobe/${rareFunction}` },
  kretprobe: { ...kprobes, section: `kretprobe/${rareFunction}` },
} as const satisfies Readonly<Record<string, AttachKindRow>>;
