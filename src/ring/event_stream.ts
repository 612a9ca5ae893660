/**
 * A web stream of events, which takes from the buffer only what is read from it.
 *
 * @param begin begins to take arrays of events, each of `wanted` at the most
 */
export function eventStream<E>(
  begin: (wanted: () => number) => AsyncIterableIterator<E[], undefined>,
  highWaterMark: number,
): ReadableStream<E> {
  let wanted = highWaterMark;
  const batches = begin(() => wanted);
  return new ReadableStream<E>(
    {
      async pull(controller) {
        wanted = Math.max(controller.desiredSize ?? 1, 1);
        const { done, value } = await batches.next();
        if (done === true) controller.close();
        else for (const event of value) controller.enqueue(event);
      },
      async cancel() {
        await batches.return?.();
      },
    },
    { highWaterMark },
  );
}
