import { readFileSync } from "node:fs";
import { BpfError } from "./error.ts";
import { DetachedMount } from "./mount.ts";

/** How far the kernel is locked against root: against changes of it, or against being read as well. */
export type Lockdown = "none" | "integrity" | "confidentiality";

const file = "lockdown";

/**
 * How far the kernel is locked against root (kernel 5.4), from securityfs where it belongs, or a private mount of it
 * (CAP_SYS_ADMIN); `undefined` where that is not to be had, as without the security module for it.
 */
export function readLockdown(): Lockdown | undefined {
  return readFrom("/sys/kernel/security") ?? readPrivately();
}

function readPrivately(): Lockdown | undefined {
  try {
    using mount = new DetachedMount("securityfs");
    return readFrom(mount.path);
  } catch (error) {
    if (error instanceof BpfError) return undefined;
    throw error;
  }
}

function readFrom(folder: string): Lockdown | undefined {
  try {
    const text = readFileSync(`${folder}/${file}`, "utf8");
    return /\[(\w+)\]/.exec(text)?.[1] as Lockdown | undefined;
  } catch (error) {
    const { code = "" } = error as NodeJS.ErrnoException;
    if (["ENOENT", "EACCES", "EPERM"].includes(code)) return undefined;
    throw error;
  }
}
