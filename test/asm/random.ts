/** @module Random tests that can be repeated: the seed is printed with a failure, SEED=... repeats it. */

/** Random numbers from a seed. */
export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** An integer from 0 to 2^32-1 (mulberry32). */
  u32(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let mixed = this.#state;
    mixed = Math.imul(mixed ^ (mixed >>> 15), mixed | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return (mixed ^ (mixed >>> 14)) >>> 0;
  }

  /** An integer from `min` to `max`, both included. */
  integer(min: number, max: number): number {
    return min + Math.floor((this.u32() / 2 ** 32) * (max - min + 1));
  }

  pick<T>(from: readonly T[]): T {
    return from[this.integer(0, from.length - 1)] as T;
  }

  bytes(length: number): Uint8Array {
    return Uint8Array.from({ length }, () => this.u32());
  }
}

/** Runs a check with fresh random numbers; a failure names the seed. */
export function property(runs: number, check: (random: Random) => void): void {
  const first = Number(process.env["SEED"] ?? Math.floor(Math.random() * 2 ** 32));
  for (let run = 0; run < runs; run++) {
    const seed = (first + run) >>> 0;
    try {
      check(new Random(seed));
    } catch (error) {
      throw new Error(`failed with SEED=${seed}: ${error}`, { cause: error });
    }
  }
}
