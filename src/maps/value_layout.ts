/** @module Layouts of values that are stored as a descriptor and read as the id or cookie of its object. */

import { describe, Located } from "../check/describe.ts";
import { type FdLike, fdOf } from "../handle/fd_like.ts";
import { u32, u64, u64Number } from "../types/integer.ts";

/**
 * Layout of a value in the memory that the kernel copies from and to.
 *
 * Every `t` type is a value layout. Per-CPU maps have other layouts, because their values are arrays. Maps of kernel objects
 * have others, too, because such values are stored by descriptor and read as ids.
 */
export interface ValueLayout<V, W = V> {
  /** Bytes that the kernel copies. */
  readonly size: number;
  read(view: DataView, offset: number): V;
  /** @throws {TypeError | RangeError} if the value cannot be stored. */
  write(view: DataView, offset: number, value: W): void;
}

/**
 * Returns the layout of a 4-byte value that is stored as a descriptor and read as the kernel's id.
 *
 * @param expected kind of object that the descriptor must refer to, for messages: `"a program"`
 */
export function idLayout(expected: string): ValueLayout<number, FdLike> {
  return {
    size: u32.size,
    read: (view, offset) => u32.read(view, offset),
    write: (view, offset, value) => u32.write(view, offset, fdOf(value, expected)),
  };
}

/** Bytes of a value that the cookie of a socket can be read from. Storing a socket needs 4 bytes only. */
export const cookieSize = u64.size;

/** Returns the layout of a socket, which is stored as a descriptor and read as its cookie if the value has 8 bytes. */
export function cookieLayout(size: number): ValueLayout<bigint, FdLike> {
  const descriptor = size === cookieSize ? u64Number : u32;
  return {
    size,
    read: (view, offset) => u64.read(view, offset),
    write: (view, offset, value) => descriptor.write(view, offset, fdOf(value, "a socket")),
  };
}

/** Value of a map for redirected packets: a number, and optionally a program. */
interface RedirectValue {
  /** Index of an interface, or size of a queue. */
  readonly number: number;
  readonly program?: FdLike | undefined;
}

/** Conversion between the values of a map class and {@link RedirectValue}. */
export interface RedirectFormat<V, W> {
  /**
   * Checks and converts a value.
   *
   * @throws {TypeError | RangeError} if it cannot be stored.
   */
  encode(value: W): RedirectValue;
  /** Converts a stored value. `programId` is `undefined` if it has no program. */
  decode(number: number, programId: number | undefined): V;
}

/** Bytes of a value with a program. */
export const redirectValueSize = 2 * u32.size;

/**
 * Layout of a number and a program, which is stored as a descriptor and read as an id: `struct bpf_devmap_val` and
 * `struct bpf_cpumap_val`. Values of 4 bytes have the number only, as in maps from before Linux 5.8 (devmap) and 5.9
 * (cpumap).
 */
export class RedirectLayout<V, W> implements ValueLayout<V, W> {
  readonly size: number;
  readonly #format: RedirectFormat<V, W>;

  constructor(size: number, format: RedirectFormat<V, W>) {
    this.size = size;
    this.#format = format;
  }

  read(view: DataView, offset: number): V {
    const number = u32.read(view, offset);
    const id = this.#hasRoomForProgram ? u32.read(view, offset + u32.size) : 0;
    return this.#format.decode(number, id === 0 ? undefined : id);
  }

  write(view: DataView, offset: number, value: W): void {
    const { number, program } = this.#format.encode(value);
    if (program !== undefined && !this.#hasRoomForProgram) {
      throw new TypeError(
        `program: expected none, because the values of this map have no room for one (${this.size} bytes, not ${redirectValueSize}), got ${describe(program)}`,
      );
    }
    // Reads the descriptor before anything is written, because the getter `fd` may use the same map.
    const fd = program === undefined ? 0 : this.#programFd(program);
    u32.write(view, offset, number);
    if (this.#hasRoomForProgram) u32.write(view, offset + u32.size, fd);
  }

  get #hasRoomForProgram(): boolean {
    return this.size >= redirectValueSize;
  }

  #programFd(program: FdLike): number {
    try {
      return fdOf(program, "a program", 1);
    } catch (error) {
      throw new Located(error, "program");
    }
  }
}
