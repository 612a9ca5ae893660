import type { Pointer } from "bun:ffi";
import { readFileSync } from "./files.ts";
import { BpfError, lastErrno } from "./error.ts";
import { type Lockdown, lockdownIn, securityFolder } from "./kernel.ts";
import { openSystemCalls } from "./libc.ts";
import { architecture } from "./platform.ts";
import { allocateScratch, getUint64 } from "./mapped_memory.ts";
import { DetachedMount } from "./mount.ts";
import { lsmIds, SYS_lsm_list_modules } from "../uapi/system.ts";

/**
 * Reads the kernel's lockdown mode (kernel 5.4), from the mounted securityfs or from a private mount of it (CAP_SYS_ADMIN).
 *
 * Returns `undefined` where neither is readable, or the kernel has no lockdown module.
 */
export function readLockdown(): Lockdown | undefined {
  return lockdownIn(securityFolder) ?? readPrivateLockdown();
}

/** Reads the kernel's lockdown mode from a private mount of securityfs (CAP_SYS_ADMIN); `undefined` where that fails. */
export function readPrivateLockdown(): Lockdown | undefined {
  try {
    using mount = new DetachedMount("securityfs");
    return lockdownIn(mount.path);
  } catch (error) {
    if (error instanceof BpfError) return undefined;
    throw error;
  }
}

/** Returns the kernel's name of a security module by its id; `"#114"` for a module that is newer than this library. */
export function securityModuleName(id: number): string {
  const known = Object.entries(lsmIds).find(([, number]) => number === id);
  // securityfs has the names in lower case.
  return known?.[0].toLowerCase() ?? `#${id}`;
}

/** Parses the text of the file `lsm` of securityfs. */
export function parseSecurityModules(text: string): string[] {
  return text
    .trim()
    .split(",")
    .filter((name) => name !== "");
}

/** The names of the active security modules, or the reason for which they are not known. */
type ModuleList = { readonly names: readonly string[] } | { readonly unknown: string };

/**
 * The names of the active security modules, which are fixed when the kernel boots. A failure is not cached: securityfs may be
 * mounted later.
 */
let cached: readonly string[] | undefined;

/**
 * Returns the names of the kernel's active security modules, from the first source that has them: lsm_list_modules(2) (kernel
 * 6.8), which needs no privilege; the mounted securityfs (kernel 4.11); a private mount of securityfs (CAP_SYS_ADMIN).
 *
 * @throws {BpfError | Error} if a source fails for a reason other than being absent or forbidden.
 */
export function activeSecurityModules(): ModuleList {
  if (cached !== undefined) return { names: cached };
  const reasons: string[] = [];
  for (const read of [listModules, () => readList(securityFolder), readPrivateList]) {
    const list = read();
    if ("names" in list) {
      cached = list.names;
      return list;
    }
    reasons.push(list.unknown);
  }
  return { unknown: reasons.join("; ") };
}

/**
 * Checks that the security module bpf is active, which reserves the place for inode storage in each inode. The kernel does not
 * check this: without the module it would write to the memory of another module.
 *
 * @throws {Error} if the module is not active, or the active modules are not known.
 */
export function requireBpfSecurityModule(): void {
  const obstacle = bpfModuleObstacle(activeSecurityModules());
  if (obstacle !== undefined) throw new Error(`cannot use inode storage: ${obstacle}`);
}

/** Explains why inode storage cannot be used with these modules, with the remedy; returns `undefined` where it can. */
export function bpfModuleObstacle(list: ModuleList): string | undefined {
  if ("unknown" in list) {
    return `the kernel's active security modules are not known, and unless bpf is among them inode storage would overwrite the memory of another module (${list.unknown}). Mount securityfs: mount -t securityfs securityfs ${securityFolder}`;
  }
  const { names } = list;
  if (names.includes("bpf")) return undefined;
  // "capability" is always active, and not valid in lsm=. A name such as "#114", for a module that this library does not
  // know, is not valid either.
  const isComplete = names.every((name) => !name.startsWith("#"));
  const wanted = [...names.filter((name) => name !== "capability"), "bpf"].join(",");
  const boot = isComplete ? `Boot with lsm=${wanted}` : "Boot with bpf added to the list of lsm=";
  return `bpf is not among the kernel's active security modules (${names.join(",")}). ${boot}, which needs a kernel with CONFIG_BPF_LSM`;
}

/** Size of the buffer for ids, in bytes. The kernel has fewer than 20 modules. */
const idsSize = 64 * 8;

function listModules(): ModuleList {
  // The ids come after the size, which has 64 bits in kernels 6.8.0 and 6.8.1, and 32 in later ones.
  const idsOffset = 8;
  using memory = allocateScratch(idsOffset + idsSize);
  memory.view.setUint32(0, idsSize, true);
  const calls = openSystemCalls({
    lsm_list_modules: {
      args: [
        "i64", // long number
        "ptr", // u64 *ids
        "ptr", // u32 *size
        "u32", // u32 flags
      ],
      returns: "i32",
    },
  });
  const count = calls.lsm_list_modules(
    SYS_lsm_list_modules[architecture],
    (memory.address + idsOffset) as Pointer,
    memory.address as Pointer,
    0,
  );
  if (count < 0) {
    const errno = lastErrno();
    const error = new BpfError({
      errno,
      syscall: "lsm_list_modules",
      doing: "list the security modules",
    });
    // The call needs no permission: EPERM and EACCES come from a container's seccomp filter that does not allow it.
    return unknownIf(["ENOSYS", "EPERM", "EACCES"], error);
  }
  const names = Array.from({ length: count }, (_, index) =>
    securityModuleName(getUint64(memory.view, idsOffset + index * 8)),
  );
  return { names };
}

function readList(folder: string): ModuleList {
  let text: string;
  try {
    text = readFileSync(`${folder}/lsm`, "utf8");
  } catch (error) {
    return unknownIf(["ENOENT", "EACCES", "EPERM"], error);
  }
  return { names: parseSecurityModules(text) };
}

function readPrivateList(): ModuleList {
  let mount: DetachedMount;
  try {
    mount = new DetachedMount("securityfs");
  } catch (error) {
    // These errors mean that CAP_SYS_ADMIN is missing, or that the kernel has no fsopen(2) (ENOSYS) or no securityfs
    // (ENODEV).
    return unknownIf(["EPERM", "EACCES", "ENOSYS", "ENODEV"], error);
  }
  using mounted = mount;
  return readList(mounted.path);
}

/** Returns the message of an error with one of these codes as the reason; throws any other error again. */
function unknownIf(codes: readonly string[], error: unknown): ModuleList {
  if (!(error instanceof Error) || !codes.includes(codeOf(error))) throw error;
  return { unknown: error.message };
}

function codeOf(error: Error): string {
  return String((error as NodeJS.ErrnoException).code);
}
