import { describeAll } from "../ffi/bpf_object.ts";
import type { LinkInfo } from "./info.ts";
import { readLinkInfo } from "./read_info.ts";

/**
 * All links on the system, whoever made them, in the order of their ids; lazily, one at a time. Links that come or go
 * meanwhile may be in the list or not.
 *
 * Kernel 5.8, CAP_SYS_ADMIN. Attachments that are no links, such as those of `tc` and before kernel 5.15 those of
 * tracepoints, have no ids.
 *
 * @throws {BpfError} `EPERM` without CAP_SYS_ADMIN, `EINVAL` before kernel 5.8
 *
 * @example
 * ```ts
 * import { asm, listLinks, Program } from "bun-bpf";
 * using program = new Program({
 *   section: "raw_tp/sched_process_exec",
 *   license: "GPL",
 *   code: [asm.mov(asm.r0, 0), asm.exit()],
 * });
 * using link = program.attach();
 * const { id } = link.info();
 * for (const info of listLinks()) {
 *   if (info.id === id && info.type === "raw-tracepoint") console.log(info.name); // sched_process_exec
 * }
 * ```
 */
export function listLinks(): Generator<LinkInfo, undefined, undefined> {
  return describeAll("link", readLinkInfo);
}
