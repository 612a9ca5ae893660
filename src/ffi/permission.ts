/**
 * @module Explanations of EPERM and EACCES: capabilities, lockdown, and the limit on locked memory (RLIMIT_MEMLOCK).
 *
 * Before kernel 5.11, maps and programs count towards that limit, and calls that would exceed it fail with EPERM. A few maps use
 * up the usual 64 KiB.
 */

import { type Capability, explainMissing } from "./capabilities.ts";
import { BpfError, lastErrno } from "./error.ts";
import { explainer } from "./explanation.ts";
import { isKernelSince, lockdownIn, securityFolder } from "./kernel.ts";
import { libc } from "./libc.ts";
import { RLIMIT_MEMLOCK } from "../uapi/system.ts";

const unlimited = 0xffff_ffff_ffff_ffffn;

/** The limit on locked memory of a process, in bytes; `Infinity` where it is unlimited. */
export interface LockedMemoryLimit {
  /** The limit that is in force. */
  readonly soft: number;
  /** The value up to which the limit can be raised without CAP_SYS_RESOURCE. */
  readonly hard: number;
}

/** Reads the limit on locked memory of this process. */
export function lockedMemoryLimit(): LockedMemoryLimit {
  const [soft = 0n, hard = 0n] = readLimit();
  return { soft: bytes(soft), hard: bytes(hard) };
}

/**
 * Returns true where maps and programs count towards the limit: before kernel 5.11. Since then they count in the memory cgroup.
 */
export function countsTowardsLimit(): boolean {
  return !isKernelSince("5.11");
}

/**
 * Raises the limit for this process and its future children: to unlimited with CAP_SYS_RESOURCE, otherwise to the hard limit.
 *
 * @returns true if the limit is higher now
 */
export function raiseLockedMemoryLimit(): boolean {
  const [soft, hard] = readLimit();
  if (soft === unlimited) return false;
  if (setLimit(unlimited, unlimited)) return true;
  return soft !== hard && setLimit(hard, hard);
}

/** Explains how the limit can be the cause of EPERM, with the remedy; returns `undefined` where it cannot be the cause. */
function explainLockedMemory(): string | undefined {
  const { soft } = lockedMemoryLimit();
  if (!countsTowardsLimit() || soft === Infinity) return undefined;
  return `Before Linux 5.11 maps and programs count towards the limit on locked memory, which is ${soft} bytes here and could not be raised: run with \`ulimit -l unlimited\`, or give the process CAP_SYS_RESOURCE`;
}

function readLimit(): readonly [soft: bigint, hard: bigint] {
  const limit = new BigUint64Array(2);
  if (libc.getrlimit(RLIMIT_MEMLOCK, limit) < 0) {
    throw new BpfError({
      errno: lastErrno(),
      syscall: "getrlimit(RLIMIT_MEMLOCK)",
      doing: "read the limit on locked memory",
    });
  }
  return [limit[0] as bigint, limit[1] as bigint];
}

function setLimit(soft: bigint, hard: bigint): boolean {
  return libc.setrlimit(RLIMIT_MEMLOCK, BigUint64Array.of(soft, hard)) === 0;
}

function bytes(limit: bigint): number {
  return limit === unlimited ? Infinity : Number(limit);
}

/**
 * Explains a call that failed because a permission is missing: names the capabilities of `needed` that this process lacks and
 * how to get them. If it lacks none, names other possible causes.
 *
 * @param locksMemory true if the limit on locked memory can be the cause: for the creation of a map and the loading of a program
 */
export function explainPermission(needed: readonly Capability[], locksMemory = false): string {
  const certain = explainMissing(needed) ?? (locksMemory ? explainLockedMemory() : undefined);
  if (certain !== undefined) return certain;
  const lockdown = lockdownIn(securityFolder) ?? explainer()?.lockdown();
  const others = "a seccomp filter or security module of the container";
  const cause =
    lockdown === undefined
      ? `${others}, the kernel's configuration, or its lockdown (in ${securityFolder}/lockdown, where securityfs is mounted)`
      : lockdown === "none"
        ? `${others}, or the kernel's configuration`
        : `most likely the kernel's lockdown (${lockdown}), otherwise ${others}`;
  return `This process has ${needed.join(" and ")}, so something else forbids it: ${cause}`;
}
