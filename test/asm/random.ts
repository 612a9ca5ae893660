/** @module Random tests. A failure prints its seed, and SEED=... repeats the run. */

/** Random numbers from a seed (mulberry32). */
export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** Returns an integer from 0 to 2^32-1. */
  u32(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let mixed = this.#state;
    mixed = Math.imul(mixed ^ (mixed >>> 15), mixed | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return (mixed ^ (mixed >>> 14)) >>> 0;
  }

  /** Returns an integer from `min` to `max`, both included. */
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

/** Runs a check several times with random numbers. The error of a failure has the seed. */
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
