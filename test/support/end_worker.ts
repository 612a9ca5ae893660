/** Terminates a Worker and waits for its end. Until then it may use the caller's descriptors, and its own are open. */
export async function endWorker(worker: Worker): Promise<void> {
  const closed = Promise.withResolvers<unknown>();
  worker.addEventListener("close", closed.resolve);
  worker.terminate();
  await closed.promise;
}
