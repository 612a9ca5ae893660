/** @module The kernel that code is compiled for: which instructions and helpers it has. */

import {
  isVersionSince,
  kernelRelease,
  type KernelVersion,
  sinceByArchitecture,
} from "../../ffi/kernel.ts";

/** First kernel versions with each feature that generated code depends on. */
export const targetVersions = {
  /** Moves that extend the sign. */
  signedMoves: "6.6",
  /** Loads that extend the sign. */
  signedLoads: "6.6",
  /** Signed division and remainder. */
  signedDivision: "6.6",
  /** Jumps over more than 32,767 slots. */
  longJumps: "6.6",
  /** Stores of immediates to the context. */
  contextImmediates: "6.3",
  /** Atomic operations other than an addition without result. */
  atomicFetch: sinceByArchitecture({ x64: "5.12", arm64: "5.18" }),
  /** The difference of two pointers is a number that the verifier does not know. The program needs CAP_PERFMON. */
  pointerDifference: "4.18",
  /** Addresses of functions of the program, for callbacks. */
  functionAddresses: "5.13",
  /** Functions of the kernel. */
  kernelFunctions: sinceByArchitecture({ x64: "5.13", arm64: "5.18" }),
  /** The helper `bpf_loop`. */
  bpfLoop: "5.17",
  /** Iterators over numbers, `bpf_iter_num_new` and its kin. */
  numberIterators: "6.4",
  /** The instruction `may_goto`. */
  mayGoto: sinceByArchitecture({ x64: "6.9", arm64: "6.10" }),
  /** The helper `bpf_get_current_task_btf`. */
  taskBtf: "5.11",
} as const satisfies Readonly<Record<string, KernelVersion>>;

/** Name of a feature of targets. */
export type TargetFeature = keyof typeof targetVersions;

/** The features that generated code may use. */
export type Target = Readonly<Record<TargetFeature, boolean>>;

const features = Object.keys(targetVersions) as TargetFeature[];

/** Returns the features of a kernel, by its version or release. */
export function targetOf(version: string): Target {
  const entries = features.map((name) => [name, isVersionSince(version, targetVersions[name])]);
  return Object.freeze(Object.fromEntries(entries) as Record<TargetFeature, boolean>);
}

let cachedTarget: Target | undefined;

/** Returns the features of the running kernel. */
export function runningTarget(): Target {
  cachedTarget ??= targetOf(kernelRelease());
  return cachedTarget;
}
