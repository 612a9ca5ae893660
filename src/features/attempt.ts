/** @module Runs an action of a probe, and returns its result as a {@link ProbeAnswer}. */

import type { Probed } from "../ffi/bpf_probe.ts";
import { Descriptor } from "../ffi/descriptor.ts";
import type { ProbeAnswer } from "./feature.ts";

/** Error of an {@link attempt}: something is missing, although the kernel returned no error. */
export class Missing extends Error {}

/** Error of an {@link attempt}: the kernel returned an error, whose name is `code`. */
export class KernelAnswer extends Error {
  readonly code: string;

  constructor(code: string) {
    super(`the kernel returned ${code}`);
    this.code = code;
  }
}

/**
 * Returns the descriptor that a probe opened.
 *
 * @throws {KernelAnswer} if the probe returned an error instead.
 */
export function descriptorOf(probed: Probed): Descriptor {
  if (probed instanceof Descriptor) return probed;
  throw new KernelAnswer(probed);
}

/**
 * Checks that a probe returned no error.
 *
 * @throws {KernelAnswer} if the probe returned an error.
 */
export function requireSuccess(error: string | undefined): void {
  if (error !== undefined) throw new KernelAnswer(error);
}

/**
 * Runs an action to find out if the kernel supports it.
 *
 * @param action the action, which undoes its effects before it returns
 * @returns `"available"`, or the error that the kernel returned
 * @throws {Error} if the action throws another error, for example because it could not undo its effects.
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
 * Returns true for the error of a system call, by this library or by `node:fs`: both set the same properties. Errors of
 * close(2) do not count, because they do not depend on the feature.
 */
function isAnswer(error: unknown): error is Error & { readonly code: string } {
  if (!(error instanceof Error)) return false;
  const { code, syscall } = error as NodeJS.ErrnoException;
  return code !== undefined && syscall !== undefined && syscall !== "close";
}
