/** What consumes a ring. */
export type Consumer = "drain" | "iteration" | "subscription" | "stream";

/** The consumer of each ring that has one now, by the kernel's id: several objects may stand for one ring. */
const consumers = new Map<number, Consumer>();

/**
 * Makes a ring's consumer known on this thread; the result takes that back.
 *
 * @throws {Error} when the ring has one already: both would move its position
 */
export function registerConsumer(id: number, consumer: Consumer, what: string): () => void {
  const present = consumers.get(id);
  if (present !== undefined) {
    throw new Error(`${what} has a consumer already: end that ${present} first`);
  }
  consumers.set(id, consumer);
  return () => consumers.delete(id);
}
