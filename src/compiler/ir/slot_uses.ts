/** @module Finds how the address of each slot is used. */

import { inputsOf, type IrFunction, type Node, type Operation, type Slot } from "./ir.ts";

/** Uses of the slots of a function. */
export interface SlotUses {
  /** Nodes that are the address of a slot, or of a part of it. */
  readonly addresses: ReadonlyMap<Node, Slot>;
  /** Slots whose address has a use of another kind than those that were named. */
  readonly otherwiseUsed: ReadonlySet<Slot>;
}

/** Finds the uses of slots. @param kinds operations on memory: a use as their address, the first input, is not another use */
export function usesOfSlots(fn: IrFunction, ...kinds: readonly Operation["kind"][]): SlotUses {
  const addresses = new Map<Node, Slot>();
  const otherwiseUsed = new Set<Slot>();
  const note = (input: Node) => {
    const slot = addresses.get(input);
    if (slot !== undefined) otherwiseUsed.add(slot);
  };
  for (const { nodes } of fn.blocks) {
    for (const node of nodes) {
      const { operation } = node;
      if (operation.kind === "slot") addresses.set(node, operation.slot);
      for (const [position, input] of node.inputs.entries()) {
        const slot = position === 0 ? addresses.get(input) : undefined;
        if (slot !== undefined && operation.kind === "address") addresses.set(node, slot);
        else if (position !== 0 || !kinds.includes(operation.kind)) note(input);
      }
    }
  }
  for (const { phis, end } of fn.blocks) {
    for (const { inputs } of phis) inputs.forEach(note);
    inputsOf(end).forEach(note);
  }
  return { addresses, otherwiseUsed };
}
