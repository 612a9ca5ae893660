const intervalMilliseconds = 10;

/** The result of {@link askDuring}: the result of the work, and the duration of each request. */
export interface Answered<T> {
  readonly result: T;
  readonly milliseconds: readonly number[];
}

/** Sends a request to a local HTTP server every 10 ms while `work` runs. Sends none without a port. */
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
      await Bun.sleep(Math.max(intervalMilliseconds - took, 1));
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
