import { existsSync, readdirSync, readFileSync } from "../ffi/files.ts";
import { activeSecurityModules, readLockdown } from "../ffi/security.ts";
import { kernelRelease, type Lockdown, possibleCpus } from "../ffi/kernel.ts";
import { IoUring } from "../ffi/io_uring.ts";
import { countsTowardsLimit, lockedMemoryLimit } from "../ffi/permission.ts";
import { pageSize } from "../ffi/mapped_memory.ts";
import { architecture } from "../ffi/platform.ts";

/** Settings of the running kernel that concern BPF. */
export interface KernelSettings {
  /** The release, as `uname -r` prints it. */
  readonly release: string;
  readonly architecture: "x64" | "arm64";
  /** Bytes. */
  readonly pageSize: number;
  /** Number of possible CPUs. A value of a per-CPU map has a part for each. */
  readonly possibleCpus: number;
  readonly btf: {
    /** True where the kernel describes its own types (kernel 5.4, `CONFIG_DEBUG_INFO_BTF`). */
    readonly vmlinux: boolean;
    /** Number of loaded modules that describe their types (kernel 5.11). */
    readonly modules: number;
  };
  readonly jit: {
    /** `undefined` where that cannot be known: the initial network namespace alone, and so no container, has the settings. */
    readonly mode: "off" | "on" | "debug" | undefined;
    /** The programs whose constants are blinded, which costs speed. */
    readonly hardening: "off" | "unprivileged" | "all" | undefined;
    /** True where compiled programs are among the kernel's symbols. */
    readonly symbols: boolean | undefined;
    /** Bytes that programs of all unprivileged users may take; `undefined` for users other than root. */
    readonly limit: number | undefined;
  };
  /**
   * Permission of unprivileged users to call bpf(2), for some types of programs and maps. `"forbidden"` is so until root
   * changes it.
   */
  readonly unprivileged: "allowed" | "forbidden" | "forbidden until boot" | undefined;
  /** The extent to which the kernel is locked against root; `undefined` without the security module for it. */
  readonly lockdown: Lockdown | undefined;
  /** The security modules that are active; `undefined` where that cannot be known. */
  readonly securityModules: readonly string[] | undefined;
  readonly lockedMemory: {
    /**
     * The limit that counts the memory of maps and programs: one of the process (before kernel 5.11), or that of its memory
     * cgroup.
     */
    readonly countedBy: "rlimit" | "memory cgroup";
    /** RLIMIT_MEMLOCK in bytes, or `Infinity`. */
    readonly limit: number;
  };
  readonly ioUring: {
    readonly available: boolean;
    /** The reason why it is not available. */
    readonly reason: string | undefined;
  };
}

const modes = ["off", "on", "debug"] as const;
const hardenings = ["off", "unprivileged", "all"] as const;
const unprivilegedModes = ["allowed", "forbidden until boot", "forbidden"] as const;

/** Reads the settings as they are now. */
export function readSettings(): KernelSettings {
  const { soft } = lockedMemoryLimit();
  const modules = activeSecurityModules();
  const symbols = sysctl("net/core/bpf_jit_kallsyms");
  return {
    release: kernelRelease(),
    architecture,
    pageSize: pageSize(),
    possibleCpus: possibleCpus().length,
    btf: { vmlinux: existsSync(`${btfFolder}/vmlinux`), modules: countModules() },
    jit: {
      mode: modes[sysctl("net/core/bpf_jit_enable") ?? -1],
      hardening: hardenings[sysctl("net/core/bpf_jit_harden") ?? -1],
      symbols: symbols === undefined ? undefined : symbols !== 0,
      limit: sysctl("net/core/bpf_jit_limit"),
    },
    unprivileged: unprivilegedModes[sysctl("kernel/unprivileged_bpf_disabled") ?? -1],
    lockdown: readLockdown(),
    securityModules: "names" in modules ? modules.names : undefined,
    lockedMemory: { countedBy: countsTowardsLimit() ? "rlimit" : "memory cgroup", limit: soft },
    ioUring: probeIoUring(),
  };
}

const btfFolder = "/sys/kernel/btf";

function countModules(): number {
  if (!existsSync(btfFolder)) return 0;
  return readdirSync(btfFolder).filter((name) => name !== "vmlinux").length;
}

/** A number below /proc/sys, or `undefined` where there is none, or not for this user. */
function sysctl(path: string): number | undefined {
  try {
    return Number(readFileSync(`/proc/sys/${path}`, "utf8"));
  } catch (error) {
    const { code = "" } = error as NodeJS.ErrnoException;
    if (["ENOENT", "EACCES", "EPERM"].includes(code)) return undefined;
    throw error;
  }
}

function probeIoUring(): KernelSettings["ioUring"] {
  try {
    new IoUring()[Symbol.dispose]();
    return { available: true, reason: undefined };
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    return { available: false, reason: error.message };
  }
}
