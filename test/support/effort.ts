/** How much of their usual work tests do that try many cases: all of it, but for emulated machines. */
const effort = Number(process.env["BUN_BPF_TEST_EFFORT"] ?? 1);

/** How often a test does something that it usually does `count` times; at least `least` times. */
export function repetitions(count: number, least = 1): number {
  return Math.max(Math.min(least, count), Math.ceil(count * effort));
}
