/**
 * @module The limit on locked memory, RLIMIT_MEMLOCK. Before kernel 5.11 maps and programs counted towards it, and what would
 * exceed it was refused as EPERM; the usual 64 KiB are used up by a few maps.
 */

import { type Capability, explainMissing } from "./capabilities.ts";
import { BpfError, lastErrno } from "./error.ts";
import { explainer } from "./explanation.ts";
import { isKernelSince, lockdownIn, securityFolder } from "./kernel.ts";
import { libc } from "./libc.ts";
import { RLIMIT_MEMLOCK } from "../uapi/system.ts";

const unlimited = 0xffff_ffff_ffff_ffffn;

/** Bytes that this process may lock, or `Infinity`; what counts, and how far it may be raised without a capability. */
export interface LockedMemoryLimit {
  readonly soft: number;
  readonly hard: number;
}

/** The limit on locked memory of this process. */
export function lockedMemoryLimit(): LockedMemoryLimit {
  const [soft = 0n, hard = 0n] = readLimit();
  return { soft: bytes(soft), hard: bytes(hard) };
}

/** Whether maps and programs count towards the limit: on kernels before 5.11, which has the memory cgroup count them. */
export function countsTowardsLimit(): boolean {
  return !isKernelSince("5.11");
}

/**
 * Raises the limit for this process and its future children, as far as it may be: without end where this process has
 * CAP_SYS_RESOURCE, and else up to its hard limit.
 *
 * @returns whether it is higher now
 */
export function raiseLockedMemoryLimit(): boolean {
  const [soft, hard] = readLimit();
  if (soft === unlimited) return false;
  if (setLimit(unlimited, unlimited)) return true;
  return soft !== hard && setLimit(hard, hard);
}

/** Why the limit may be what a call was refused for, and what helps; `undefined` where it cannot be. */
export function explainLockedMemory(): string | undefined {
  const { soft } = lockedMemoryLimit();
  if (!countsTowardsLimit() || soft === Infinity) return undefined;
  return `Before kernel 5.11 maps and programs count towards the limit on locked memory, which is ${soft} bytes here and could not be raised: run with \`ulimit -l unlimited\`, or give the process CAP_SYS_RESOURCE`;
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
 * Explains a refusal for want of privilege: names what is missing, of `needed`, and how to get it; else what may forbid it.
 *
 * @param locksMemory whether the limit on locked memory may be the reason: what was refused is a map or a program
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
        : `most likely that the kernel is locked down (${lockdown}), else ${others}`;
  return `This process has ${needed.join(" and ")}, so something else forbids it: ${cause}`;
}
