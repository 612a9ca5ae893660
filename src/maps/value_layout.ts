/**
 * How a value lies in the memory that the kernel copies from and to.
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
