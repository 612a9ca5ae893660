/** What consumes a ring. */
export type Consumer = "drain" | "iteration";

/** The consumer of each ring that has one now, by the kernel's id: several objects may stand for one ring. */
const consumers = new Map<number, Consumer>();

/**
 * Makes a ring's consumer known on this thread; the result takes that back.
 *
 * @param ring for the message
 * @throws {Error} when the ring has one already: both would move its position
 */
export function registerConsumer(id: number, consumer: Consumer, ring: unknown): () => void {
  const present = consumers.get(id);
  if (present !== undefined) {
    throw new Error(`${ring} has a consumer already: end that ${present} first`);
  }
  consumers.set(id, consumer);
  return () => consumers.delete(id);
}
