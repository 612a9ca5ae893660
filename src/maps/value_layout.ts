/** @module Layouts of values that are written as a descriptor and read as a number that stands for its object. */

import { describe, Located } from "../check/describe.ts";
import { u32, u64, u64Number } from "../types/integer.ts";

/**
 * The layout of a value in the memory that the kernel copies from and to.
 *
 * Every type of `t` is one. Kinds of maps whose values are more than one (one for each CPU), or are given as one thing and
 * read as another (a descriptor, and the id of what it stood for), have their own.
 */
export interface ValueLayout<V, W = V> {
  /** Bytes that the kernel copies. */
  readonly size: number;
  read(view: DataView, offset: number): V;
  /** @throws {TypeError | RangeError} for a value that cannot be stored */
  write(view: DataView, offset: number, value: W): void;
}

/** A socket of `Bun.listen`, `Bun.connect` or `Bun.udpSocket`: it has its descriptor as `fd`, which Bun's types (1.4) lack. */
export interface BunSocket {
  readonly fd?: number;
  ref(): unknown;
  unref(): unknown;
  reload(options: never): unknown;
}

/**
 * An open descriptor: its number, or an object that has one as `fd`, such as a {@link Program} or a socket of `Bun.listen`.
 *
 * The kernel holds the object for as long as it needs to: the descriptor may be closed after the call.
 */
export type FdLike = number | { readonly fd: number } | BunSocket;

const maxFd = 0x7fffffff;

/**
 * The number of a descriptor.
 *
 * @param expected what it should be open on, for messages: `"a program"`
 * @param minFd 1 where the kernel takes 0 for "none"
 * @throws {TypeError} when it is neither a number nor an object with one
 * @throws {RangeError} for a number that no open descriptor has, such as the -1 of a closed socket
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
  const descriptor = size === cookieSize ? u64Number : u32;
  return {
    size,
    read: (view, offset) => u64.read(view, offset),
    write: (view, offset, value) => descriptor.write(view, offset, fdOf(value, "a socket")),
  };
}

/** The common part of values of maps for redirected packets: a number, and perhaps a program. */
interface RedirectValue {
  /** An interface's index, or the size of a queue. */
  readonly number: number;
  readonly program?: FdLike | undefined;
}

/** The conversion between the values of one kind of map and their common part. */
export interface RedirectFormat<V, W> {
  /** Checks a value and takes it apart. @throws {TypeError | RangeError} */
  encode(value: W): RedirectValue;
  /** `programId` is `undefined` where no program was stored. */
  decode(number: number, programId: number | undefined): V;
}

/** Bytes of a value with room for a program. */
export const redirectValueSize = 2 * u32.size;

/**
 * A number and a program, which is written as a descriptor and read as an id: `struct bpf_devmap_val` and
 * `struct bpf_cpumap_val`. Values of 4 bytes are the number alone, as in maps made before programs could be stored.
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
        `program: expected none, as this map's values have no room for one (${this.size} bytes, not ${redirectValueSize}), got ${describe(program)}`,
      );
    }
    // Before anything is written: the object's getter may use the same map.
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
