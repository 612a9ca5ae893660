/** @module Compares the types of programs that replace one another: the kernel's error for another type is a bare EINVAL. */

import { fdNumber, openById, readFdInfo } from "../ffi/bpf_object.ts";
import { type ProgramTypeName, programTypeName } from "../ffi/bpf_prog.ts";
import { Descriptor } from "../ffi/descriptor.ts";
import { BpfError } from "../ffi/error.ts";
import type { LinkInfo } from "./link_info.ts";

/** Returns the type of the program of a descriptor; `undefined` if it is not one, or the kernel does not report the type. */
function typeOf(fd: number): ProgramTypeName | undefined {
  const number = fdNumber(readFdInfo(fd), "prog_type");
  return number === undefined ? undefined : programTypeName(number);
}

/**
 * Explains that a program has another type than the one that it is to replace; returns `undefined` if the types are equal or not
 * known.
 *
 * @param target the noun for what has the old program: `"link"`
 */
export function explainOtherType(newFd: number, oldFd: number, target: string): string | undefined {
  const [given, needed] = [typeOf(newFd), typeOf(oldFd)];
  return given === undefined || needed === undefined || given === needed
    ? undefined
    : `The program is of type ${given}, and the ${target} needs ${needed}`;
}

/** The types of links whose program can be replaced. */
const updatable: ReadonlySet<LinkInfo["type"]> = new Set([
  ...(["cgroup", "netns", "xdp", "tcx", "netkit", "sockmap"] as const),
]);

/** Explains EINVAL for a new program of a link; returns `undefined` if the cause is the type of the link, or not known. */
export function explainUnfit(newFd: number, { type, programId }: LinkInfo): string | undefined {
  if (!updatable.has(type)) return undefined;
  try {
    using old = new Descriptor(openById("prog", programId), "program of the link");
    return (
      explainOtherType(newFd, old.fd, "link") ??
      "The program was loaded for another attach type than that of the link: load it for the same section"
    );
  } catch (error) {
    // Without CAP_SYS_ADMIN, the type of the old program is not known.
    if (!(error instanceof BpfError)) throw error;
    return "The program has another type or attach type than that of the link: load it for the same section";
  }
}
