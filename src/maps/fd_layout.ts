/** @module Values that are written as a descriptor and read as a number that stands for what is behind it. */

import { u32, u64, u64n } from "../types/integer.ts";
import { type FdLike, fdOf } from "./fd_like.ts";
import type { ValueLayout } from "./value_layout.ts";

/**
 * A descriptor of 4 bytes, read as the kernel's id.
 *
 * @param expected what the descriptor should be open on, for messages: `"a program"`
 */
export function idLayout(expected: string): ValueLayout<number, FdLike> {
  return {
    size: u32.size,
    read: (view, offset) => u32.read(view, offset),
    write: (view, offset, value) => u32.write(view, offset, fdOf(value, expected)),
  };
}

/** Bytes of a value that a socket's cookie can be read from; for its descriptor alone, 4 do. */
export const cookieSize = u64.size;

/** The descriptor of a socket, read as its cookie where there is room for one. */
export function cookieLayout(size: number): ValueLayout<bigint, FdLike> {
  const descriptor = size === cookieSize ? u64n : u32;
  return {
    size,
    read: (view, offset) => u64.read(view, offset),
    write: (view, offset, value) => descriptor.write(view, offset, fdOf(value, "a socket")),
  };
}
