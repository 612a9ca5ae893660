/** What a sink writes to. */
export interface RecordSink<E> {
  write(event: E, options: { readonly signal: AbortSignal }): Promise<void>;
}

/** A stream's controller with the signal that it has but its declaration lacks. */
type Controller = WritableStreamDefaultController & { readonly signal: AbortSignal };

/** A web stream of events into a ring: it takes as many as the ring has room for. */
export function writableStream<E>(
  ring: RecordSink<E>,
  signal: AbortSignal | undefined,
  highWaterMark: number,
): WritableStream<E> {
  let stop: AbortSignal;
  let onAbort = (): void => {};
  return new WritableStream<E>(
    {
      start(controller) {
        // Aborted by the stream's own abort(), which a write that waits for room would hold up.
        stop = (controller as Controller).signal;
        if (signal === undefined) return;
        onAbort = () => controller.error(signal.reason);
        if (signal.aborted) onAbort();
        else signal.addEventListener("abort", onAbort, { once: true });
        stop = AbortSignal.any([stop, signal]);
      },
      async write(event) {
        try {
          await ring.write(event, { signal: stop });
        } catch (error) {
          signal?.removeEventListener("abort", onAbort);
          throw error;
        }
      },
      close: () => signal?.removeEventListener("abort", onAbort),
      abort: () => signal?.removeEventListener("abort", onAbort),
    },
    { highWaterMark },
  );
}
