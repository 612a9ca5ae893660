/** Rounds up to a multiple of 8, as the kernel aligns keys, values and records. */
export function roundUp8(size: number): number {
  return Math.ceil(size / 8) * 8;
}
