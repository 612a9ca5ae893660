/** @module Attaches to raw tracepoints, with untyped arguments (raw_tp) or arguments typed by BTF (tp_btf). */

import { openRawTracepoint } from "../ffi/bpf_link.ts";
import { Descriptor } from "../ffi/descriptor.ts";
import { type AttachMethod, Link } from "./link.ts";
import { unknownTracepoint } from "./tracepoint.ts";

const target = {
  targetExample: "sched_switch",
  // The name of a tracepoint is a C identifier.
  targetForm: /^\w+$/,
} as const;

/** Attaches to a raw tracepoint, whose arguments are untyped (kernel 4.17). */
export const rawTracepoint: AttachMethod = {
  ...target,
  attach(program, name) {
    const fd = openRawTracepoint(program.fd, name, {
      doing: `attach to the raw tracepoint ${name}`,
      needs: ["CAP_BPF", "CAP_PERFMON"],
      hints: {
        ENOENT: () => unknownTracepoint(name, "name"),
        EINVAL: "The program reads more arguments than the tracepoint has",
      },
    });
    return new Link(new Descriptor(fd, `raw_tp link to ${name}`));
  },
};

/** Attaches to the tracepoint that the program was loaded for, whose arguments are typed by BTF (kernel 5.5). */
export const tracingTracepoint: AttachMethod = {
  ...target,
  attach(program, name) {
    const fd = openRawTracepoint(program.fd, null, {
      doing: `attach to the tracepoint ${name}`,
      needs: ["CAP_BPF", "CAP_PERFMON"],
    });
    return new Link(new Descriptor(fd, `tp_btf link to ${name}`));
  },
};
