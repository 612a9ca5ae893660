/** Returns the median. */
export function median(numbers: readonly number[]): number {
  return percentile(numbers, 0.5);
}

/** Returns the number below which this fraction (0 to 1) of all numbers lies. */
export function percentile(numbers: readonly number[], share: number): number {
  const sorted = numbers.toSorted((a, b) => a - b);
  const index = Math.min(Math.floor(sorted.length * share), sorted.length - 1);
  return sorted[index] ?? Number.NaN;
}

/**
 * Returns the median of the ratios of two series, which have one figure per round.
 *
 * The ratio is taken per round because the load of other machines changes from round to round, but affects both sides of a
 * round alike.
 */
export function medianRatio(ours: readonly number[], theirs: readonly number[]): number {
  return median(ours.map((figure, round) => figure / (theirs[round] ?? Number.NaN)));
}
