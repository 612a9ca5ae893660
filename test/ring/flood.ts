/** @module Runs of a program without a pause, on another thread. */
import { packet } from "./producer.ts";
import { endWorker } from "../support/end_worker.ts";

/** Runs the program on another thread until the result is disposed of. After that, the thread does not use the descriptor. */
export async function flood(programFd: number): Promise<AsyncDisposable> {
  const worker = new Worker(`${import.meta.dir}/children/flood_worker.ts`, { ref: false });
  const ready = Promise.withResolvers<void>();
  worker.onmessage = () => ready.resolve();
  worker.onerror = ({ message }) => ready.reject(new Error(message));
  worker.postMessage({ programFd, packet });
  await ready.promise;
  return { [Symbol.asyncDispose]: () => endWorker(worker) };
}
