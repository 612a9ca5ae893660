/**
 * @module Loads from memory that the kernel writes, in their order.
 *
 * `Atomics.load` is no way to read memory that is mapped read-only. On a view of 32 bits or less it ends the process once it is
 * compiled, on every processor; on one of 64 bits at once on arm64: the engine emits a read-modify-write there.
 */

import { architecture } from "./platform.ts";

/**
 * Where the machine may reorder loads: a place for an atomic store followed by an atomic load, between two loads whose order counts.
 * `undefined` on x86-64, which keeps loads in order.
 *
 * The kernel writes a record's payload and then, with full ordering, its header without the busy bit, say: a reader that saw the header
 * so must not use a payload that it had loaded before.
 *
 * On arm64 both accesses are sequentially consistent: the store (STLR, or an atomic instruction with release semantics) comes after
 * all loads before it, the load (LDAR, or an atomic instruction with acquire semantics) comes after that store and before all loads
 * behind it. One atomic addition would do on machines with the large system extensions alone: as a pair of LDAXR and STLXR it
 * lets a later load overtake an earlier one. To the engine, too, an atomic operation may change any memory, so that its compilers move
 * no load across it.
 */
export const loadFence: Int32Array | undefined =
  architecture === "x64" ? undefined : new Int32Array(1);

/** Keeps the loads behind it behind those before it. */
export function orderLoads(): void {
  if (loadFence === undefined) return;
  Atomics.store(loadFence, 0, 0);
  Atomics.load(loadFence, 0);
}

/**
 * Reads a 64-bit position that the kernel stores with release semantics, from memory that may be read-only: what it covers may be
 * loaded after this.
 */
export function loadPosition(words: BigUint64Array, index: number): number {
  if (loadFence === undefined) return Number(Atomics.load(words, index));
  // An aligned load of 64 bits is one access there.
  const position = Number(words[index]);
  orderLoads();
  return position;
}
