import { u32 } from "../types/integer.ts";
import { describe } from "../types/refusal.ts";
import { type FdLike, fdOf } from "./fd_like.ts";
import type { ValueLayout } from "./value_layout.ts";

/** What the values of maps for redirected packets have in common: a number, and perhaps a program. */
interface Programmed {
  /** An interface's index, or the size of a queue. */
  readonly number: number;
  readonly program?: FdLike | undefined;
}

/** How the values of one kind of map are written and read, apart from where they lie. */
export interface ProgrammedParts<V, W> {
  /** Checks a value and takes it apart. @throws {TypeError | RangeError} */
  take(value: W): Programmed;
  /** `programId` is `undefined` where no program was stored. */
  make(number: number, programId: number | undefined): V;
}

/** Bytes of a value with room for a program. */
export const programmedSize = 2 * u32.size;

/**
 * A number and a program, which is written as a descriptor and read as an id: `struct bpf_devmap_val` and
 * `struct bpf_cpumap_val`. Values of 4 bytes are the number alone, as in maps made before programs could be stored.
 */
export class ProgrammedLayout<V, W> implements ValueLayout<V, W> {
  readonly size: number;
  readonly #parts: ProgrammedParts<V, W>;

  constructor(size: number, parts: ProgrammedParts<V, W>) {
    this.size = size;
    this.#parts = parts;
  }

  read(view: DataView, offset: number): V {
    const number = u32.read(view, offset);
    const id = this.#hasProgram ? u32.read(view, offset + u32.size) : 0;
    return this.#parts.make(number, id === 0 ? undefined : id);
  }

  write(view: DataView, offset: number, value: W): void {
    const { number, program } = this.#parts.take(value);
    if (program !== undefined && !this.#hasProgram) {
      throw new TypeError(
        `program: expected none, as this map's values have no room for one (${this.size} bytes, not ${programmedSize}), got ${describe(program)}`,
      );
    }
    // Before anything is written: the object's getter may use the same map.
    const fd = program === undefined ? 0 : this.#descriptor(program);
    u32.write(view, offset, number);
    if (this.#hasProgram) u32.write(view, offset + u32.size, fd);
  }

  get #hasProgram(): boolean {
    return this.size >= programmedSize;
  }

  #descriptor(program: FdLike): number {
    try {
      return fdOf(program, "a program", 1);
    } catch (error) {
      if (error instanceof Error) error.message = `program: ${error.message}`;
      throw error;
    }
  }
}
