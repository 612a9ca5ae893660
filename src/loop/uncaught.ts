/** Makes an error an uncaught one: for what nobody calls who could catch it, so that the rest goes on. */
export function throwUncaught(error: unknown): void {
  queueMicrotask(() => {
    throw error;
  });
}
