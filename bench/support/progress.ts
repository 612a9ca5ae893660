const quietMilliseconds = 1000;
const started = performance.now();

/** Says on stderr what is being done, once this process takes longer than a moment. */
export function progress(text: string): void {
  if (performance.now() - started < quietMilliseconds) return;
  console.error(`${((performance.now() - started) / 1000).toFixed(0).padStart(4)} s  ${text}`);
}
