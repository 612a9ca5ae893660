/** Returns a generator of integers below `bound`. The same seed gives the same numbers (mulberry32). */
export function randomNumbers(seed: number): (bound: number) => number {
  let state = seed;
  return (bound) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 0x1_0000_0000) * bound);
  };
}

/** Returns a random seed for {@link randomNumbers}. */
export function anySeed(): number {
  return (Math.random() * 0x1_0000_0000) >>> 0;
}
