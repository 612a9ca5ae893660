import { readFileSync } from "../ffi/files.ts";
import { BpfError } from "../ffi/error.ts";

const vmlinux = "/sys/kernel/btf/vmlinux";

/** The running kernel's BTF as bytes. @throws {BpfError} `ENOENT` where the kernel has none or /sys is not mounted */
export function readKernelBtf(path: string = vmlinux): Uint8Array {
  try {
    return readFileSync(path);
  } catch (error) {
    throw new BpfError({
      errno: Math.abs((error as NodeJS.ErrnoException).errno ?? 0),
      syscall: "open",
      doing: `read the kernel's type information at ${path}`,
      hint: "It needs a kernel with CONFIG_DEBUG_INFO_BTF (5.4 or later) and /sys mounted",
    });
  }
}
