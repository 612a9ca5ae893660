import { throwUncaught } from "./uncaught.ts";

/**
 * Reports each of the ids that completed together.
 *
 * What one `onReady` throws becomes an uncaught error and not the end of the batch: the others would never wake up.
 */
export function deliver(ids: readonly number[], onReady: (id: number) => void): void {
  for (const id of ids) {
    try {
      onReady(id);
    } catch (error) {
      throwUncaught(error);
    }
  }
}
