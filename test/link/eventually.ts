const intervalMs = 20;
const limitMs = 30_000;

/** Waits until a condition holds, because the kernel frees programs and links asynchronously. Returns its last value. */
export async function eventually(condition: () => boolean): Promise<boolean> {
  for (const deadline = Date.now() + limitMs; Date.now() < deadline; await Bun.sleep(intervalMs)) {
    if (condition()) return true;
  }
  return condition();
}
