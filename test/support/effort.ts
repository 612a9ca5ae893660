/** The fraction of its usual cases that a test with many cases runs: 1, or less on emulated machines. */
const effort = Number(process.env["BUN_BPF_TEST_EFFORT"] ?? 1);

/** Returns the number of repetitions for a test that usually makes `count`: at least `least`. */
export function repetitions(count: number, least = 1): number {
  return Math.max(Math.min(least, count), Math.ceil(count * effort));
}
