import { type Pointer, read } from "bun:ffi";
import { errnoNumbers } from "../uapi/errno.ts";
import { libc } from "./libc.ts";
import { platformObstacle } from "./platform.ts";

/** A symbolic name of an error of the kernel, as in `errno.h`: `"EPERM"`. `ENOTSUPP` is not there, yet bpf(2) answers it. */
export type ErrnoName = keyof typeof errnoNumbers | "ENOTSUPP";

/** The kernel's own "operation is not supported" (include/linux/errno.h), which leaks out of bpf(2) for map operations. */
export const ENOTSUPP = 524;

const errnoAddress: Pointer =
  platformObstacle === undefined ? (libc.__errno_location() as Pointer) : (0 as Pointer);

/** Why the last call of this thread failed. Valid only straight after that call: anything in between may call libc. */
export function lastErrno(): number {
  return read.i32(errnoAddress, 0);
}

let names: ReadonlyMap<number, ErrnoName> | undefined;

/** `1` to `"EPERM"`. */
export function errnoName(errno: number): string {
  names ??= new Map<number, ErrnoName>([
    ...Object.entries(errnoNumbers)
      // Aliases (EWOULDBLOCK, EDEADLOCK) come after the name proper: the first one stays.
      .reverse()
      .map(([name, number]) => [number, name as ErrnoName] as const),
    [ENOTSUPP, "ENOTSUPP"],
  ]);
  return names.get(errno) ?? `errno ${errno}`;
}

/** The usual sentence for an error: `"operation not permitted"`. Empty where there is none. */
export function errnoDescription(errno: number): string {
  if (errno === ENOTSUPP) return "operation is not supported";
  // Loaded for an error that there is, as it takes milliseconds.
  const { getSystemErrorMap } = process.getBuiltinModule("node:util");
  return getSystemErrorMap().get(-errno)?.[1] ?? "";
}
