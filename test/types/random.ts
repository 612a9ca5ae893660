/** Random numbers from a seed (mulberry32), for property tests. */
export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed;
  }

  /** Returns an integer from 0 to `limit - 1`. */
  below(limit: number): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0;
    let x = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state);
    x = (x + Math.imul(x ^ (x >>> 7), 61 | x)) ^ x;
    return Math.floor((((x ^ (x >>> 14)) >>> 0) / 2 ** 32) * limit);
  }

  pick<T>(from: readonly T[]): T {
    return from[this.below(from.length)]!;
  }

  /** Returns a bigint of 64 random bits. */
  bits64(): bigint {
    return (BigInt(this.below(2 ** 32)) << 32n) | BigInt(this.below(2 ** 32));
  }
}

/** Seed of this run, from the environment or new. */
export const seed: number = Number(process.env["BUN_BPF_TEST_SEED"] ?? Date.now() % 2 ** 31);

/** Runs a property test. The error of a failure has the seed. */
export function withRandom(property: (random: Random) => void): void {
  try {
    property(new Random(seed));
  } catch (error) {
    console.error(`repeat with BUN_BPF_TEST_SEED=${seed}`);
    throw error;
  }
}
