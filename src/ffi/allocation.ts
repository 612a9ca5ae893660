/** @module Elements that the kernel allocates when they are stored. */

import { errnoNumbers } from "../uapi/errno.ts";
import type { KindHints } from "./map_hints.ts";

/** As long as the kernel may take, in milliseconds: on a busy machine, too, it has refilled its reserve after two. */
export const refillTime = 50;

/**
 * Whether a store that was refused is worth another attempt; waits for it a millisecond.
 *
 * The kernel takes the memory of elements that were not allocated with their map from a small reserve, as programs may
 * not wait for memory, and refills that in the background (kernel/bpf/memalloc.c, pcpu_balance_workfn() in mm/percpu.c).
 * Who stores faster gets ENOMEM while the machine has plenty. Kinds that have another reason for it tell that in their hints:
 * for them there is nothing to wait for.
 *
 * @param waited how many milliseconds this store has waited so far
 */
export function waitsForRefill({ hints }: KindHints, errno: number, waited: number): boolean {
  if (errno !== errnoNumbers.ENOMEM || hints?.["ENOMEM"] !== undefined) return false;
  if (waited >= refillTime) return false;
  Bun.sleepSync(1);
  return true;
}
