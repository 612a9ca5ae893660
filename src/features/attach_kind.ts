import type { ProbeAnswer } from "./feature.ts";
import {
  type Attachment,
  attachProgram,
  createLink,
  detachProgram,
  type LinkParts,
} from "../ffi/bpf_link.ts";
import type { Probed } from "../ffi/bpf_probe.ts";
import type { Capability } from "../ffi/capabilities.ts";
import { Descriptor } from "../ffi/descriptor.ts";
import type { KernelVersion } from "../ffi/kernel.ts";
import { type Architecture, architecture } from "../ffi/platform.ts";

/** Ends an {@link attempt}: something is missing that no call is refused for. */
export class Missing extends Error {}

/** Ends an {@link attempt} with the error that the kernel answered, by its name. */
export class KernelAnswer extends Error {
  readonly code: string;

  constructor(code: string) {
    super(`the kernel answers ${code}`);
    this.code = code;
  }
}

/** What a probe made. @throws {KernelAnswer} for the error that is there instead of it */
export function descriptorOf(probed: Probed): Descriptor {
  if (probed instanceof Descriptor) return probed;
  throw new KernelAnswer(probed);
}

/**
 * Finds out whether something can be done, by doing it.
 *
 * @param action does it, and undoes it before it returns
 * @returns what the call answered that it ended with
 * @throws what is no answer of the kernel: that something could not be undone, say
 */
export function attempt(action: () => void): ProbeAnswer {
  try {
    action();
    return "available";
  } catch (error) {
    if (error instanceof Missing) return { missing: error.message };
    if (error instanceof KernelAnswer || isAnswer(error)) return error.code;
    throw error;
  }
}

/**
 * Whether it is the error of a system call: this library's, or that of `node:fs`, which has the same properties. That something
 * could not be closed answers nothing.
 */
function isAnswer(error: unknown): error is Error & { readonly code: string } {
  if (!(error instanceof Error)) return false;
  const { code, syscall } = error as NodeJS.ErrnoException;
  return code !== undefined && syscall !== undefined && syscall !== "close";
}

/** The kernel that has something first on this architecture, where its compiler for programs had to learn it. */
export function sinceByArchitecture(
  versions: Readonly<Record<Architecture, KernelVersion>>,
): KernelVersion {
  return versions[architecture];
}

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
