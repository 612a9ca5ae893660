/** A web stream of events, which takes from the buffer only what is read from it. */
export function eventStream<E>(
  batches: AsyncIterableIterator<E[], undefined>,
  highWaterMark: number,
): ReadableStream<E> {
  return new ReadableStream<E>(
    {
      async pull(controller) {
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
