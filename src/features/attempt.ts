/** @module Tries something, and turns its outcome into the kernel's answer. */

import type { Probed } from "../ffi/bpf_probe.ts";
import { Descriptor } from "../ffi/descriptor.ts";
import type { ProbeAnswer } from "./feature.ts";

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

/** Returns the descriptor that a probe made. @throws {KernelAnswer} for the error that is there instead of it */
export function descriptorOf(probed: Probed): Descriptor {
  if (probed instanceof Descriptor) return probed;
  throw new KernelAnswer(probed);
}

/** Throws the error that a probe ended with, if any. @throws {KernelAnswer} */
export function requireNone(error: string | undefined): void {
  if (error !== undefined) throw new KernelAnswer(error);
}

/**
 * Finds out whether something can be done, by doing it.
 *
 * @param action does it, and undoes it before it returns
 * @returns the answer of the call that it ended with
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
 * Returns true for the error of a system call: this library's, or that of `node:fs`, which has the same properties. That
 * something could not be closed answers nothing.
 */
function isAnswer(error: unknown): error is Error & { readonly code: string } {
  if (!(error instanceof Error)) return false;
  const { code, syscall } = error as NodeJS.ErrnoException;
  return code !== undefined && syscall !== undefined && syscall !== "close";
}
