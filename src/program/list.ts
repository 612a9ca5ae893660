import { describeAll } from "../ffi/bpf_object.ts";
import { type ProgramInfo, readProgramInfo } from "./info.ts";

/**
 * All programs on the system, whoever loaded them, in the order of their ids; lazily, one at a time. Programs that come or
 * go meanwhile may be in the list or not.
 *
 * Kernel 4.13, CAP_SYS_ADMIN.
 *
 * @throws {BpfError} `EPERM` without CAP_SYS_ADMIN
 *
 * @example
 * ```ts
 * import { asm, listPrograms, Program } from "bun-bpf";
 * using program = new Program({
 *   section: "socket",
 *   name: "mine",
 *   license: "GPL",
 *   code: [asm.mov(asm.r0, 0), asm.exit()],
 * });
 * const { id } = program.info();
 * for (const { id, type, name, loadedAt } of listPrograms()) console.log(id, type, name, loadedAt);
 * console.log([...listPrograms()].find((info) => info.id === id)?.type); // socket-filter
 * ```
 */
export function listPrograms(): Generator<ProgramInfo, undefined, undefined> {
  return describeAll("prog", readProgramInfo);
}
