const quietMilliseconds = 1000;
const started = performance.now();

/** Prints the progress on stderr, if this process takes longer than a second. */
export function progress(text: string): void {
  if (performance.now() - started < quietMilliseconds) return;
  console.error(`${((performance.now() - started) / 1000).toFixed(0).padStart(4)} s  ${text}`);
}
