/** @module What refusals of operations on the elements of a map mean. */

import { BPF_F_LOCK } from "../uapi/bpf.ts";
import { refillTime } from "./allocation.ts";

/** What refusals of the kernel mean, by the name of the error: the likely cause and the remedy. */
export type Hints = Readonly<Record<string, string>>;

/** What refusals mean for one kind of map, where that is more than for any. */
export interface KindHints {
  /** Of refusals to store. */
  readonly hints?: Hints;
  /** Of refusals of a key, whatever is done with it. */
  readonly keyHints?: Hints;
}

const everyOperation: Hints = {
  ENOMEM: "The kernel has no memory for the call",
  EBUSY:
    "Another change of this part of the map was under way on this CPU, as happens in programs that interrupt one another",
};

/** Of operations with these bits. */
export function flagHints(flags: number): Hints {
  if ((flags & BPF_F_LOCK) === 0) return {};
  return {
    EINVAL: "The map was made without a spin lock in its values that the kernel was told of",
  };
}

/** Of look-ups and walks: a frozen map can be read. */
export const readHints: Hints = {
  ...everyOperation,
  EPERM: "The map was created or opened without the right to read it",
};

/** Of deletions, and of what reads and deletes in one step. */
export const deleteHints: Hints = {
  ...everyOperation,
  EPERM: "The map is frozen, or was created or opened without this access",
};

const isFull = "The map is full (maxEntries): make it larger, or delete what is not needed";

/** Of what stores in a map of this kind. */
export function storeHints({ hints, keyHints }: KindHints): Hints {
  return {
    ...deleteHints,
    ENOMEM: `The kernel had no memory for the element, nor found any within ${refillTime} ms: a map of elements that are allocated in advance (without no-prealloc) gets all its memory when it is created`,
    E2BIG: isFull,
    // An LPM trie's word for it.
    ENOSPC: isFull,
    ...keyHints,
    ...hints,
  };
}
