import { readFileSync } from "node:fs";

/** The running kernel's BTF as bytes. @throws {Error} where the kernel has none or /sys is not mounted */
export function readKernelBtf(): Uint8Array {
  const path = "/sys/kernel/btf/vmlinux";
  try {
    return readFileSync(path);
  } catch (cause) {
    throw new Error(
      `cannot read the kernel's type information at ${path}: it needs a kernel with CONFIG_DEBUG_INFO_BTF (5.4 or later) and /sys mounted`,
      { cause },
    );
  }
}
