/** @module Open file descriptors as arguments: numbers, or objects that have one as `fd`. */

import { describe } from "../check/describe.ts";

/**
 * Socket of `Bun.listen`, `Bun.connect` or `Bun.udpSocket`. Its descriptor is the property `fd`, which Bun's types (1.4)
 * lack.
 */
export interface BunSocket {
  /** Descriptor of the socket. */
  readonly fd?: number;
  /** Keeps the process alive while the socket is open. */
  ref(): unknown;
  /** Lets the process end while the socket is open. */
  unref(): unknown;
  /** Replaces the callbacks of the socket. */
  reload(options: never): unknown;
}

/**
 * Open file descriptor: its number, or an object that has one as `fd`, such as a {@link Program} or a socket of
 * `Bun.listen`.
 *
 * The kernel keeps its own reference to the object: the descriptor may be closed after the call.
 */
export type FdLike = number | { readonly fd: number } | BunSocket;

const maxFd = 0x7fffffff;

/**
 * Returns the number of a descriptor.
 *
 * @param expected kind of object that the descriptor must refer to, for messages: `"a program"`
 * @param minFd 1 if the kernel takes 0 for "none"
 * @throws {TypeError} if the value is neither a number nor an object with one as `fd`.
 * @throws {RangeError} if the number cannot be that of an open descriptor, for example -1 of a closed socket.
 */
export function fdOf(value: FdLike, expected: string, minFd: 0 | 1 = 0): number {
  const fd: unknown = typeof value === "object" && value !== null ? value.fd : value;
  if (typeof fd !== "number") {
    throw new TypeError(
      `expected ${expected}: its descriptor, or an object with that as fd, got ${describe(value)}`,
    );
  }
  if (!Number.isInteger(fd) || fd < minFd || fd > maxFd) {
    throw new RangeError(
      `expected ${expected}: a descriptor from ${minFd} to ${maxFd}, got ${describe(fd)}`,
    );
  }
  return fd;
}
