import { openRawTracepoint } from "../ffi/bpf_link.ts";
import { Link, type LinkedProgram } from "./link.ts";

/** Attaches to a raw tracepoint: its arguments as the kernel passes them, untyped (kernel 4.17). */
export function attachRawTracepoint(program: LinkedProgram, name: string): Link {
  const what = `raw_tp link to ${name}`;
  const fd = openRawTracepoint(program.fd, name, {
    doing: `attach to the raw tracepoint ${name}`,
    needs: ["CAP_BPF", "CAP_PERFMON"],
    hints: {
      ENOENT: `This kernel has no tracepoint ${name}: \`ls /sys/kernel/tracing/events/*\` shows those it has, without their category here`,
      EINVAL: "The program reads more arguments than the tracepoint has",
    },
  });
  return new Link(fd, what);
}

/** Attaches to the tracepoint that the program was loaded for, its arguments typed by BTF (kernel 5.5). */
export function attachTracingProgram(program: LinkedProgram, name: string): Link {
  const fd = openRawTracepoint(program.fd, null, {
    doing: `attach to the tracepoint ${name}`,
    needs: ["CAP_BPF", "CAP_PERFMON"],
  });
  return new Link(fd, `tp_btf link to ${name}`);
}
