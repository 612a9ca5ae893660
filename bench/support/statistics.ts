/** The middle of some numbers. */
export function median(numbers: readonly number[]): number {
  return percentile(numbers, 0.5);
}

/** The number that this share of all of them is below. */
export function percentile(numbers: readonly number[], share: number): number {
  const sorted = numbers.toSorted((a, b) => a - b);
  const index = Math.min(Math.floor(sorted.length * share), sorted.length - 1);
  return sorted[index] ?? Number.NaN;
}

/**
 * How one series of rounds compares with another of the same rounds.
 *
 * Each round is compared with itself first: what the machine's neighbours do changes from round to round, and is the same
 * for both sides of one.
 */
export function medianRatio(ours: readonly number[], theirs: readonly number[]): number {
  return median(ours.map((figure, round) => figure / (theirs[round] ?? Number.NaN)));
}
