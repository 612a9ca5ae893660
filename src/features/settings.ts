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
  /** The processor architecture. */
  readonly architecture: "x64" | "arm64";
  /** Size of a page in bytes. */
  readonly pageSize: number;
  /** Number of possible CPUs. A per-CPU map has one value per key for each of them. */
  readonly possibleCpus: number;
  /** Type information (BTF) of the kernel. */
  readonly btf: {
    /** True if the kernel has BTF of itself (kernel 5.4, `CONFIG_DEBUG_INFO_BTF`). */
    readonly vmlinux: boolean;
    /** Number of loaded modules with BTF (kernel 5.11). */
    readonly modules: number;
  };
  /**
   * The just-in-time compiler. Its settings exist only in the initial network namespace: elsewhere, as in most containers, they
   * are `undefined`.
   */
  readonly jit: {
    /** The sysctl net.core.bpf_jit_enable. */
    readonly mode: "off" | "on" | "debug" | undefined;
    /** The programs whose constants are blinded, which makes the programs slower: the sysctl net.core.bpf_jit_harden. */
    readonly hardening: "off" | "unprivileged" | "all" | undefined;
    /** True if compiled programs are among the kernel's symbols: the sysctl net.core.bpf_jit_kallsyms. */
    readonly symbols: boolean | undefined;
    /** Maximum bytes of machine code of all unprivileged users together; `undefined` for users other than root. */
    readonly limit: number | undefined;
  };
  /**
   * Permission of unprivileged users to call bpf(2) for some types of programs and maps: the sysctl
   * kernel.unprivileged_bpf_disabled. Root can change `"forbidden"`, but not `"forbidden until boot"`.
   */
  readonly unprivileged: "allowed" | "forbidden" | "forbidden until boot" | undefined;
  /** The lockdown mode, which restricts even root; `undefined` if the kernel has no lockdown security module. */
  readonly lockdown: Lockdown | undefined;
  /** The names of the active security modules; `undefined` if they cannot be read. */
  readonly securityModules: readonly string[] | undefined;
  /** The limits of the memory of maps and programs. */
  readonly lockedMemory: {
    /** The limit that applies: RLIMIT_MEMLOCK before kernel 5.11, that of the process's memory cgroup since then. */
    readonly countedBy: "rlimit" | "memory cgroup";
    /** RLIMIT_MEMLOCK in bytes; `Infinity` for no limit. */
    readonly limit: number;
  };
  /** Availability of io_uring, by which the event loop waits for ring buffers. */
  readonly ioUring: {
    /** True if this process can use io_uring. */
    readonly available: boolean;
    /** The reason why io_uring is not available; `undefined` if it is. */
    readonly reason: string | undefined;
  };
}

const modes = ["off", "on", "debug"] as const;
const hardenings = ["off", "unprivileged", "all"] as const;
const unprivilegedModes = ["allowed", "forbidden until boot", "forbidden"] as const;

/** Reads the current settings from the kernel. */
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

/** Reads a number in /proc/sys; `undefined` if the file does not exist or this user may not read it. */
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
