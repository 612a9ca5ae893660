/** Terminates a Worker and waits for its end: until then it may use descriptors of the caller, and has its own open. */
export async function endWorker(worker: Worker): Promise<void> {
  const closed = Promise.withResolvers<unknown>();
  worker.addEventListener("close", closed.resolve);
  worker.terminate();
  await closed.promise;
}
