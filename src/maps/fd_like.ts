import { describe } from "../types/refusal.ts";

/**
 * An open descriptor: its number, or an object that has one as `fd`, such as a {@link Program} or a socket of `Bun.listen`.
 *
 * The kernel takes what is behind it for as long as it needs to: the descriptor may be closed after the call.
 */
export type FdLike = number | { readonly fd: number };

const largestFd = 0x7fffffff;

/**
 * The number of a descriptor.
 *
 * @param expected what it should be open on, for messages: `"a program"`
 * @param smallest 1 where the kernel takes 0 for "none"
 * @throws {TypeError} when it is neither a number nor an object with one
 * @throws {RangeError} for a number that no open descriptor has, such as the -1 of a closed socket
 */
export function fdOf(value: FdLike, expected: string, smallest: 0 | 1 = 0): number {
  const fd: unknown = typeof value === "object" && value !== null ? value.fd : value;
  if (typeof fd !== "number") {
    throw new TypeError(
      `expected ${expected}: its descriptor, or an object with that as fd, got ${describe(value)}`,
    );
  }
  if (!Number.isInteger(fd) || fd < smallest || fd > largestFd) {
    throw new RangeError(
      `expected ${expected}: a descriptor from ${smallest} to ${largestFd}, got ${describe(fd)}`,
    );
  }
  return fd;
}
