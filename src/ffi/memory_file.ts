import type { Pointer } from "bun:ffi";
import { writeSync } from "./files.ts";
import { MFD_CLOEXEC, MFD_NOEXEC_SEAL } from "../uapi/system.ts";
import { Descriptor } from "./descriptor.ts";
import { BpfError, errnoName, lastErrno } from "./error.ts";
import { otherLibc } from "./libc_others.ts";
import { allocateScratch } from "./mapped_memory.ts";

/**
 * Creates an anonymous file in memory that cannot be executed (memfd_create(2), kernel 3.17).
 *
 * @throws {BpfError} if the call fails.
 */
export function createMemoryFile(contents: Uint8Array, what: string): Descriptor {
  const text = Buffer.from("bun-bpf\0");
  using name = allocateScratch(text.length);
  name.bytes.set(text);
  const create = (flags: number) =>
    otherLibc.memfd_create(name.address as Pointer, flags | MFD_CLOEXEC);
  // Kernel 6.3 and later log a warning if this flag is missing, or reject the call. Older ones return EINVAL for the flag.
  let fd = create(MFD_NOEXEC_SEAL);
  if (fd < 0 && errnoName(lastErrno()) === "EINVAL") fd = create(0);
  if (fd < 0) {
    throw new BpfError({
      errno: lastErrno(),
      syscall: "memfd_create",
      doing: `create the ${what}`,
    });
  }
  const file = new Descriptor(fd, what);
  try {
    writeSync(file.fd, contents);
  } catch (error) {
    file[Symbol.dispose]();
    throw error;
  }
  return file;
}
