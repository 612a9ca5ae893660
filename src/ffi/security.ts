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
 * Returns how far the kernel is locked against root (kernel 5.4), from securityfs where it belongs, or a private mount of it
 * (CAP_SYS_ADMIN); `undefined` where that is not to be had, as without the security module for it.
 */
export function readLockdown(): Lockdown | undefined {
  return lockdownIn(securityFolder) ?? readPrivateLockdown();
}

/** Reads it from a private mount of securityfs alone (CAP_SYS_ADMIN). */
export function readPrivateLockdown(): Lockdown | undefined {
  try {
    using mount = new DetachedMount("securityfs");
    return lockdownIn(mount.path);
  } catch (error) {
    if (error instanceof BpfError) return undefined;
    throw error;
  }
}

/** What the kernel calls a security module; `"#114"` for one that is newer than this library. */
export function securityModuleName(id: number): string {
  const known = Object.entries(lsmIds).find(([, number]) => number === id);
  // The kernel writes the names in lower case.
  return known?.[0].toLowerCase() ?? `#${id}`;
}

/** The names in the text of securityfs's file `lsm`. */
export function parseSecurityModules(text: string): string[] {
  return text
    .trim()
    .split(",")
    .filter((name) => name !== "");
}

/** A list of names, or why there is none to be had. */
type Answer = { readonly names: readonly string[] } | { readonly unknown: string };

/** Fixed when the kernel boots. That the list is unknown is not: securityfs may be mounted yet. */
let cached: readonly string[] | undefined;

/**
 * The names of the kernel's active security modules, from the first source that has them: lsm_list_modules(2) (kernel 6.8),
 * which asks for no privilege; securityfs (kernel 4.11) where it belongs; a private mount of it (CAP_SYS_ADMIN).
 *
 * @throws {BpfError | Error} for a failure that is not the want of a source
 */
export function activeSecurityModules(): Answer {
  if (cached !== undefined) return { names: cached };
  const reasons: string[] = [];
  for (const ask of [askKernel, () => readList(securityFolder), readPrivateList]) {
    const answer = ask();
    if ("names" in answer) {
      cached = answer.names;
      return answer;
    }
    reasons.push(answer.unknown);
  }
  return { unknown: reasons.join("; ") };
}

/**
 * Refuses where the module is not active that has the place for the values of inode storage, and where that cannot be
 * known. The kernel does not look: without the module it would take the memory of another one for that place.
 *
 * @throws {Error} that says why, and the remedy
 */
export function requireBpfSecurityModule(): void {
  const obstacle = bpfModuleObstacle(activeSecurityModules());
  if (obstacle !== undefined) throw new Error(`cannot use inode storage: ${obstacle}`);
}

/** Why inode storage cannot be used where these modules are active, with the remedy; `undefined` where it can. */
export function bpfModuleObstacle(answer: Answer): string | undefined {
  if ("unknown" in answer) {
    return `the kernel's active security modules cannot be known, and unless bpf is among them this would overwrite another one's memory (${answer.unknown}). Mount securityfs: mount -t securityfs securityfs ${securityFolder}`;
  }
  const { names } = answer;
  if (names.includes("bpf")) return undefined;
  // "capability" is always active and no name for lsm=; nor is the number of a module whose name is not known here.
  const isComplete = names.every((name) => !name.startsWith("#"));
  const wanted = [...names.filter((name) => name !== "capability"), "bpf"].join(",");
  const boot = isComplete ? `Boot with lsm=${wanted}` : "Boot with bpf added to the list of lsm=";
  return `bpf is not among the kernel's active security modules (${names.join(",")}). ${boot}, which takes a kernel with CONFIG_BPF_LSM`;
}

/** The kernel has places for less than 20 modules. */
const roomForIds = 64 * 8;

function askKernel(): Answer {
  // Behind a size of 64 bits, which it was in kernels 6.8.0 and 6.8.1; later ones take the lower 32.
  const idsOffset = 8;
  using memory = allocateScratch(idsOffset + roomForIds);
  memory.view.setUint32(0, roomForIds, true);
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
    // The call has no permission to want: that is the answer of a container's filter which does not know it.
    return unknownIf(["ENOSYS", "EPERM", "EACCES"], error);
  }
  const names = Array.from({ length: count }, (_, index) =>
    securityModuleName(getUint64(memory.view, idsOffset + index * 8)),
  );
  return { names };
}

function readList(folder: string): Answer {
  let text: string;
  try {
    text = readFileSync(`${folder}/lsm`, "utf8");
  } catch (error) {
    return unknownIf(["ENOENT", "EACCES", "EPERM"], error);
  }
  return { names: parseSecurityModules(text) };
}

function readPrivateList(): Answer {
  let mount: DetachedMount;
  try {
    mount = new DetachedMount("securityfs");
  } catch (error) {
    // Without the privilege, or in a kernel without such mounts (ENOSYS) or without securityfs (ENODEV).
    return unknownIf(["EPERM", "EACCES", "ENOSYS", "ENODEV"], error);
  }
  using mounted = mount;
  return readList(mounted.path);
}

/** Takes an error with one of these codes for the want of a source; any other one is thrown again. */
function unknownIf(codes: readonly string[], error: unknown): Answer {
  if (!(error instanceof Error) || !codes.includes(codeOf(error))) throw error;
  return { unknown: error.message };
}

function codeOf(error: Error): string {
  return String((error as NodeJS.ErrnoException).code);
}
