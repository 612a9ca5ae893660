const everyMilliseconds = 10;

/** What was done meanwhile, and how long the server took for each answer. */
export interface Answered<T> {
  readonly result: T;
  readonly milliseconds: readonly number[];
}

/** Asks the server on a port of this machine something every 10 ms while `work` is done; nothing without a port. */
export async function askDuring<T>(
  port: number | undefined,
  work: () => Promise<T>,
): Promise<Answered<T>> {
  const milliseconds: number[] = [];
  let isOver = port === undefined;
  const asking = (async () => {
    while (!isOver) {
      const start = performance.now();
      await (await fetch(`http://127.0.0.1:${port}/`)).text();
      const took = performance.now() - start;
      milliseconds.push(took);
      await Bun.sleep(Math.max(everyMilliseconds - took, 1));
    }
  })();
  try {
    const result = await work();
    return { result, milliseconds };
  } finally {
    isOver = true;
    await asking;
  }
}
