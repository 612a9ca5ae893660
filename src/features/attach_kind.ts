import { type Attachment, attachProgram, detachProgram } from "../ffi/bpf_attach.ts";
import type { Capability } from "../ffi/capabilities.ts";
import { Descriptor } from "../ffi/descriptor.ts";
import type { KernelVersion } from "../ffi/kernel_release.ts";
import { createLink, type LinkParts } from "../ffi/link_create.ts";

/** A way to attach programs: since when, on what it depends, and how it is tried. */
export interface AttachKindFacts {
  readonly since: KernelVersion;
  readonly config?: readonly string[];
  /** Capabilities that the trial needs. */
  readonly needs: readonly Capability[];
  /** Attaches the smallest program, where it disturbs nobody, and detaches it. @throws what the kernel answers */
  readonly attach: () => void;
}

/** The facts of several ways that have some in common. */
export type AttachKinds = Readonly<Record<string, AttachKindFacts>>;

/** Makes a link, to be disposed of at once. @throws {BpfError} with what the kernel answers */
export function tryLink(parts: LinkParts): Descriptor {
  return new Descriptor(createLink(parts, { doing: "make a link" }), "link of a trial");
}

/**
 * Attaches a program without a link, and detaches it.
 *
 * @throws {BpfError} with what the kernel answers
 * @throws {Error} when it cannot be detached
 */
export function tryAttachment(attachment: Attachment): void {
  attachProgram(attachment, { doing: "attach a program" });
  try {
    detachProgram(attachment, { doing: "detach a program" });
  } catch (cause) {
    throw new Error("the program of a trial cannot be detached", { cause });
  }
}

/** What a program would get from `get_attach_cookie`: it has to be other than 0, which stands for none. */
export const cookie = 1n;
