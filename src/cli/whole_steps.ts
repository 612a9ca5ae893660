const endingSignals = ["SIGINT", "SIGTERM"] as const;

/**
 * Takes the steps one after another. A signal that ends the process does so between two of them, not in the middle of one:
 * what a step makes for itself it can remove.
 *
 * @param onEnd called behind the last step that was taken, in any case
 */
export async function inWholeSteps(steps: Iterable<() => void>, onEnd: () => void): Promise<void> {
  let received: NodeJS.Signals | undefined;
  const remember = (signal: NodeJS.Signals): void => {
    received ??= signal;
  };
  for (const signal of endingSignals) process.on(signal, remember);
  try {
    for (const step of steps) {
      step();
      // Signals are told of in a turn of the event loop.
      await new Promise(setImmediate);
      if (received !== undefined) break;
    }
  } finally {
    for (const signal of endingSignals) process.off(signal, remember);
    onEnd();
  }
  if (received !== undefined) process.kill(process.pid, received);
}
