/** Ends a Worker, and waits until it has: until then it may use the descriptors that it was told of, and close its own. */
export async function endWorker(worker: Worker): Promise<void> {
  const closed = Promise.withResolvers<unknown>();
  worker.addEventListener("close", closed.resolve);
  worker.terminate();
  await closed.promise;
}
