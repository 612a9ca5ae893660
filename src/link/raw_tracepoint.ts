/** @module Attaches to raw tracepoints, with untyped arguments (raw_tp) or arguments typed by BTF (tp_btf). */

import type { BpfCallContext } from "../ffi/bpf.ts";
import { openRawTracepoint } from "../ffi/bpf_link.ts";
import { Descriptor } from "../ffi/descriptor.ts";
import {
  type AttachKindRow,
  type AttachMethod,
  checkCookie,
  checkTarget,
  type CookieOptions,
  type TargetForm,
} from "./attach_method.ts";
import { Link } from "./link.ts";
import { rareTracepoint, unknownTracepoint } from "./tracepoint.ts";

/** The target of sections with raw tracepoints. */
export interface RawTracepointTarget {
  /** The name of the tracepoint, without a category: `"sched_switch"`. */
  readonly tracepoint: string;
}

/** Options of `attach()` for the sections `raw_tp` and `raw_tp.w`. */
export type RawTracepointOptions = RawTracepointTarget & CookieOptions;

/** The name of a tracepoint is a C identifier. */
const form = { example: "sched_switch", pattern: /^\w+$/ } as const satisfies TargetForm;

const needs = ["CAP_BPF", "CAP_PERFMON"] as const;

/** Attaches to a raw tracepoint, whose arguments are untyped (kernel 4.17). */
export const rawTracepoint: AttachMethod<RawTracepointOptions> = {
  options: ["tracepoint", "cookie"],
  target: { ...form, toOptions: (tracepoint) => ({ tracepoint }) },
  attach({ program, options: { tracepoint, cookie } }) {
    checkTarget("attach: tracepoint", form, tracepoint);
    return openTracepoint(program.fd, tracepoint, cookie, `raw_tp link to ${tracepoint}`, {
      doing: `attach to the raw tracepoint ${tracepoint}`,
      needs,
      hints: {
        ENOENT: () => unknownTracepoint(tracepoint, "name"),
        EINVAL: "The program reads more arguments than the tracepoint has",
      },
    });
  },
};

/** Attaches to the tracepoint that the program was loaded for, whose arguments are typed by BTF (kernel 5.5). */
export const tracingTracepoint: AttachMethod<CookieOptions> = {
  options: ["cookie"],
  target: { ...form, pattern: /^(?:\w+:)?\w+$/ },
  attach({ program, target = "", options: { cookie } }) {
    return openTracepoint(program.fd, null, cookie, `tp_btf link to ${target}`, {
      doing: `attach to the tracepoint ${target}`,
      needs,
    });
  },
};

function openTracepoint(
  programFd: number,
  name: string | null,
  cookie: bigint | undefined,
  what: string,
  context: BpfCallContext,
): Link {
  checkCookie(cookie);
  return new Link(new Descriptor(openRawTracepoint(programFd, name, context, cookie), what));
}

const events = { needs, config: ["CONFIG_BPF_EVENTS"] } as const;

/** The ways to attach in this file, as `features` lists them. */
export const rawTracepointKinds = {
  raw_tp: { since: "4.17", ...events, section: `raw_tp/${rareTracepoint.name}` },
  raw_tp_cookie: {
    since: "6.10",
    ...events,
    section: `raw_tp/${rareTracepoint.name}`,
    options: { cookie: 1n },
  },
  "raw_tp.w": {
    since: "5.2",
    needs,
    config: ["CONFIG_BPF_EVENTS", "CONFIG_NET"],
    // A writable tracepoint (kernel 5.2), which fires at the end of each BPF_PROG_TEST_RUN.
    section: "raw_tp.w/bpf_test_finish",
  },
  tp_btf: {
    since: "5.5",
    needs,
    config: ["CONFIG_BPF_EVENTS", "CONFIG_DEBUG_INFO_BTF"],
    section: `tp_btf/${rareTracepoint.name}`,
  },
} as const satisfies Readonly<Record<string, AttachKindRow>>;
