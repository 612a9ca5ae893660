/** @module Attaches to instructions and returns of functions in files by uprobes: to one place, or to several by one link. */

import { checkCount, listOf } from "../check/arguments.ts";
import { describe } from "../check/describe.ts";
import type { BpfCallContext } from "../ffi/bpf.ts";
import { createLink, setNumberArray } from "../ffi/bpf_link.ts";
import { Descriptor } from "../ffi/descriptor.ts";
import { similarFile, statSync } from "../ffi/files.ts";
import { isKernelSince, type KernelVersion } from "../ffi/kernel.ts";
import { BPF_F_UPROBE_MULTI_RETURN } from "../uapi/bpf.ts";
import { LINK_CREATE } from "../uapi/layout.ts";
import {
  type AttachKindRow,
  type AttachMethod,
  checkCookie,
  checkCookies,
  checkTarget,
  type CookieOptions,
  type CookiesOptions,
  type TargetForm,
} from "./attach_method.ts";
import { Link } from "./link.ts";
import { attachPerfEvent, openProbe } from "./perf_event.ts";

/** The target of sections with uprobes: an instruction in a file. */
export interface UprobeTarget {
  /** The path of a program or library. A relative path starts at the working directory. */
  readonly path: string;
  /**
   * The number of bytes from the start of the file to the instruction. It is not the virtual address that `nm` prints: subtract
   * the address of the segment, and add its offset in the file (`readelf --segments`).
   */
  readonly offset: number;
}

/** Options of `attach()` for all sections with uprobes. */
export interface UprobeProcessOptions {
  /**
   * The id of the only process in which the program runs.
   *
   * Linux 6.6 to 6.9, except for their stable releases since June 2024, run programs of uprobe.multi only in the thread with that
   * id, which is the first thread of the process.
   *
   * @default all processes, also those that start later
   */
  readonly pid?: number;
}

/** Options of `attach()` for the sections `uprobe` and `uretprobe`, besides the path. */
export interface UprobeOptions extends CookieOptions, UprobeProcessOptions {
  /** The offset of the instruction, if the target of the section does not name it. */
  readonly offset?: number;
  /**
   * The offset of a reference counter in the file (a semaphore of USDT), which the kernel increments while the program is attached.
   *
   * @default none
   */
  readonly referenceOffset?: number;
}

/** The target of sections with uprobe.multi: instructions in a file. */
export interface UprobeMultiTarget {
  /** The path of a program or library. A relative path starts at the working directory. */
  readonly path: string;
  /** The numbers of bytes from the start of the file to the instructions, as {@link UprobeTarget.offset}. */
  readonly offsets: readonly number[];
}

/** Options of `attach()` for the sections with uprobe.multi, besides the path. */
export interface UprobeMultiOptions extends CookiesOptions, UprobeProcessOptions {
  /** The offsets of the instructions, if the target of the section does not name one. */
  readonly offsets?: readonly number[];
  /**
   * The offset of a reference counter for each instruction; 0 for none.
   *
   * @default none
   */
  readonly referenceOffsets?: readonly number[];
}

const example = "/usr/bin/bash:0x31f40";
const pattern = /^[^\0]+$/;

/** Splits a target into the path and the place after the last colon. */
function parsePlace(target: string): Readonly<Record<string, unknown>> {
  const [, path, place] = /^(.+):([^:/]*)$/s.exec(target) ?? [];
  if (path === undefined || place === undefined) return { path: target };
  return /^(0x[0-9a-f]+|\d+)$/i.test(place)
    ? { path, offset: Number(place) }
    : { path, symbol: place };
}

const placeForm: TargetForm = { example, pattern, toOptions: parsePlace };

const placesForm: TargetForm = {
  example,
  pattern,
  toOptions(target) {
    const { offset, ...rest } = parsePlace(target);
    return offset === undefined ? rest : { ...rest, offsets: [offset] };
  },
};

/** Attaches to an instruction in a file (kernel 4.17). */
export const uprobe: AttachMethod<UprobeTarget & UprobeOptions> = /*@__PURE__*/ method(false);

/** Attaches to the return of a function in a file (kernel 4.17). */
export const uretprobe: AttachMethod<UprobeTarget & UprobeOptions> = /*@__PURE__*/ method(true);

/** Attaches to several instructions in a file by one link (kernel 6.6). */
export const uprobeMulti: AttachMethod<UprobeMultiTarget & UprobeMultiOptions> =
  /*@__PURE__*/ multiMethod(0);

/** Attaches to the returns of several functions in a file by one link (kernel 6.6). */
export const uretprobeMulti: AttachMethod<UprobeMultiTarget & UprobeMultiOptions> =
  /*@__PURE__*/ multiMethod(BPF_F_UPROBE_MULTI_RETURN);

// Linux 5.8 to 6.15 allow uprobes without CAP_SYS_ADMIN, but their stable versions since July 2025 require it as older and
// newer kernels do (perf_uprobe_event_init() in kernel/events/core.c).
const needs = ["CAP_BPF", "CAP_PERFMON", "CAP_SYS_ADMIN"] as const;

function method(isReturn: boolean): AttachMethod<UprobeTarget & UprobeOptions> {
  return {
    options: ["path", "offset", "pid", "cookie", "referenceOffset"],
    target: placeForm,
    attach({ program, options }) {
      const { path, offset, pid, cookie, referenceOffset } = options;
      checkPath(options);
      checkOffset("offset", offset);
      checkPid(pid);
      // The field of the event has 32 bits.
      if (referenceOffset !== undefined) {
        checkCount("attach: referenceOffset", referenceOffset, 0, 0xffff_ffff);
      }
      checkCookie(cookie);
      const place = `${path}+0x${offset.toString(16)}`;
      const doing = `attach to ${isReturn ? "the return of " : ""}${place}`;
      const event = openProbe(
        {
          source: "uprobe",
          isReturn,
          target: path,
          offset: BigInt(offset),
          pid,
          referenceOffset,
        },
        { doing, needs, hints: hintsFor(path, [offset], pid) },
        `${isReturn ? "uretprobe" : "uprobe"} link to ${place}`,
      );
      return attachPerfEvent(program, event, cookie, {
        doing,
        needs,
        hints: isKernelSince("6.0")
          ? {}
          : { EINVAL: "Programs that sleep (sections with .s) need Linux 6.0 in uprobes" },
      });
    },
  };
}

/** @param flags bits `BPF_F_UPROBE_MULTI_*` */
function multiMethod(flags: number): AttachMethod<UprobeMultiTarget & UprobeMultiOptions> {
  return {
    options: ["path", "offsets", "pid", "cookies", "referenceOffsets"],
    target: placesForm,
    attach({ program, attachType = "trace_uprobe_multi", options }) {
      const { path, pid, cookies } = options;
      checkPath(options);
      const offsets = checkOffsets("offsets", options.offsets);
      if (offsets.length === 0) {
        throw new RangeError("attach: offsets: expected at least one, got an empty list");
      }
      checkPid(pid);
      checkCookies(cookies, offsets.length, "offset");
      const references =
        options.referenceOffsets === undefined
          ? undefined
          : checkOffsets("referenceOffsets", options.referenceOffsets);
      if (references !== undefined && references.length !== offsets.length) {
        throw new RangeError(
          `attach: referenceOffsets: expected one for each of the ${offsets.length} offsets, got ${references.length}`,
        );
      }
      const doing = `attach to ${offsets.length} places in ${path}`;
      const context = { doing, needs, hints: multiHints(attachType, path, offsets, pid) };
      const fd = createLink({ fd: program.fd, attachType }, context, (attr) => {
        attr
          .string(LINK_CREATE.uprobe_multi_path, path)
          .u32(LINK_CREATE.uprobe_multi_cnt, offsets.length)
          .u32(LINK_CREATE.uprobe_multi_flags, flags)
          .u32(LINK_CREATE.uprobe_multi_pid, pid ?? 0);
        setNumberArray(attr, LINK_CREATE.uprobe_multi_offsets, offsets.map(BigInt));
        setNumberArray(attr, LINK_CREATE.uprobe_multi_ref_ctr_offsets, references?.map(BigInt));
        setNumberArray(attr, LINK_CREATE.uprobe_multi_cookies, cookies);
      });
      return new Link(
        new Descriptor(fd, `uprobe_multi link to ${offsets.length} places in ${path}`),
      );
    },
  };
}

/** @throws {TypeError} if the path is not a path, or the target of the section names a symbol. */
function checkPath({ path, symbol }: { readonly path: unknown; readonly symbol?: unknown }): void {
  if (symbol !== undefined) {
    throw new TypeError(
      `attach: bun-bpf does not find symbols in files yet: expected a target of the form ${describe(example)}, got the symbol ${describe(symbol)}`,
    );
  }
  checkTarget("attach: path", placeForm, path);
}

function checkOffset(option: string, offset: number): void {
  checkCount(`attach: ${option}`, offset, 0, Number.MAX_SAFE_INTEGER);
}

function checkOffsets(option: string, offsets: Iterable<number>): number[] {
  const list = listOf(offsets, `attach: ${option}`);
  for (const [index, offset] of list.entries()) checkOffset(`${option}[${index}]`, offset);
  return list;
}

function checkPid(pid: number | undefined): void {
  if (pid !== undefined) checkCount("attach: pid", pid, 1);
}

/** Returns hints for errors about a file, offsets in it and a process. */
function hintsFor(
  path: string,
  offsets: readonly number[],
  pid: number | undefined,
): NonNullable<BpfCallContext["hints"]> {
  const explainFile = () => explainPlace(path, offsets);
  return {
    ENOENT: explainFile,
    ENOTDIR: explainFile,
    EBADF: explainFile,
    EINVAL: explainFile,
    EIO: () => `The file system of ${path} does not support uprobes`,
    ...(pid !== undefined && { ESRCH: `There is no process ${pid}` }),
  };
}

/** The kernel versions that introduced the attach types. */
const sinceByType: Readonly<Record<string, KernelVersion>> = {
  trace_uprobe_multi: "6.6",
  trace_uprobe_session: "6.13",
};

function multiHints(
  attachType: string,
  path: string,
  offsets: readonly number[],
  pid: number | undefined,
): NonNullable<BpfCallContext["hints"]> {
  const since = sinceByType[attachType] ?? "6.6";
  return {
    ...hintsFor(path, offsets, pid),
    EINVAL: () =>
      explainPlace(path, offsets) ??
      (isKernelSince(since)
        ? undefined
        : since === "6.6"
          ? 'Links to several places need Linux 6.6: attach a program of section "uprobe" to each place'
          : `uprobe.session needs Linux ${since}: attach a program each of the sections "uprobe" and "uretprobe"`),
    EOPNOTSUPP: "This kernel was built without CONFIG_UPROBES",
    E2BIG: "A link can have at most 2 ** 20 places",
  };
}

/** Explains why the kernel cannot probe offsets in a file; returns `undefined` if the file has them. */
function explainPlace(path: string, offsets: readonly number[]): string | undefined {
  try {
    const stat = statSync(path);
    if (!stat.isFile()) return `${path} is not a regular file`;
    const beyond = offsets.find((offset) => offset >= stat.size);
    return beyond === undefined
      ? undefined
      : `The offset 0x${beyond.toString(16)} is past the end of the file, which has 0x${stat.size.toString(16)} bytes`;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code !== "ENOENT") return undefined;
    const near = similarFile(path);
    return `There is no file ${path}${near === undefined ? "" : `: ${near}`}`;
  }
}

const single = {
  since: "4.17",
  needs,
  config: ["CONFIG_UPROBE_EVENTS", "CONFIG_BPF_EVENTS"],
  place: "file",
  options: { offset: 0 },
} as const;
const multi = {
  needs: ["CAP_BPF", "CAP_PERFMON"],
  config: ["CONFIG_UPROBES", "CONFIG_BPF_EVENTS"],
  place: "file",
  options: { offsets: [0] },
} as const;

/** The ways to attach in this file, as `features` lists them. */
export const uprobeKinds = {
  uprobe: { ...single, section: "uprobe" },
  uretprobe: { ...single, section: "uretprobe" },
  "uprobe.multi": { since: "6.6", ...multi, section: "uprobe.multi" },
  "uretprobe.multi": { since: "6.6", ...multi, section: "uretprobe.multi" },
  "uprobe.multi_cookie": {
    since: "6.6",
    ...multi,
    section: "uprobe.multi",
    options: { offsets: [0], cookies: [1n] },
  },
  "uprobe.session": { since: "6.13", ...multi, section: "uprobe.session" },
} as const satisfies Readonly<Record<string, AttachKindRow>>;
