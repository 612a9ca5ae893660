import type { Pointer } from "bun:ffi";
import { errnoName, lastErrno } from "./errno.ts";
import { BpfError } from "./error.ts";
import { libc } from "./libc.ts";
import { allocateScratch } from "./scratch.ts";

/** IF_NAMESIZE: the longest name, and a NUL. */
const longestName = 16;

/**
 * The index of a network interface in this process's network namespace, by its name.
 *
 * @param name without NUL
 * @throws {BpfError} `ENODEV` where there is none
 */
export function interfaceIndex(name: string): number {
  const text = Buffer.from(`${name}\0`);
  using memory = allocateScratch(text.length);
  memory.bytes.set(text);
  const index = libc.if_nametoindex(memory.address as Pointer);
  if (index !== 0) return index;
  const errno = lastErrno();
  throw new BpfError({
    errno,
    syscall: "if_nametoindex",
    doing: `find the network interface ${JSON.stringify(name)}`,
    hint:
      errnoName(errno) === "ENODEV"
        ? "This network namespace has no interface of that name: `ip link` lists those that it has"
        : undefined,
  });
}

/** The name of the network interface of this index in this process's network namespace, or `undefined` where it has none. */
export function interfaceName(index: number): string | undefined {
  using memory = allocateScratch(longestName);
  if (libc.if_indextoname(index, memory.address as Pointer) === null) return undefined;
  return Buffer.from(memory.bytes.subarray(0, memory.bytes.indexOf(0))).toString("utf8");
}
