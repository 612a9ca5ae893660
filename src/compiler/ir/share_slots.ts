/** @module Lets values on the stack that are not needed at the same time share room. */

import { Flow } from "./flow.ts";
import { inputsOf, type IrFunction, type Node, type Slot } from "./ir.ts";

/** First and last position in the order of blocks at which the address of a slot is used. */
interface Extent {
  first: number;
  last: number;
}

/** Replaces slots by shared ones. */
export function shareSlots(fn: IrFunction): void {
  const flow = new Flow(fn);
  const extents = findExtents(fn, flow);
  const rooms: { slot: Slot; size: number; last: number }[] = [];
  const chosen = new Map<Slot, { slot: Slot; size: number }>();
  const inOrder = [...extents].sort(([, a], [, b]) => a.first - b.first);
  for (const [slot, { first, last }] of inOrder) {
    // The smallest free room that is large enough.
    const free = rooms
      .filter(
        (room) => room.last < first && room.size >= slot.size && room.slot.align >= slot.align,
      )
      .sort((a, b) => a.size - b.size);
    let room = free[0];
    if (room === undefined) rooms.push((room = { slot, size: slot.size, last }));
    room.last = last;
    chosen.set(slot, room);
  }
  for (const { nodes } of fn.blocks) {
    for (const node of nodes) {
      if (node.operation.kind !== "slot") continue;
      const room = chosen.get(node.operation.slot);
      if (room !== undefined) node.operation = { kind: "slot", slot: room.slot };
    }
  }
}

/** Returns the extents of all slots. A slot that is written before a loop and used in it is needed until the loop ends. */
function findExtents(fn: IrFunction, flow: Flow): Map<Slot, Extent> {
  const extents = new Map<Slot, Extent>();
  const slotsOf = addressesOf(fn);
  const noteAll = (node: Node, position: number) => {
    for (const slot of slotsOf.get(node) ?? []) {
      const extent = extents.get(slot);
      if (extent === undefined) extents.set(slot, { first: position, last: position });
      else {
        extent.first = Math.min(extent.first, position);
        extent.last = Math.max(extent.last, position);
      }
    }
  };
  const blockStarts: number[] = [];
  const blockEnds: number[] = [];
  let position = 0;
  for (const block of flow.order) {
    blockStarts.push(position++);
    for (const node of block.nodes) {
      position++;
      // The address itself needs no room.
      for (const input of node.inputs) noteAll(input, position);
    }
    for (const input of inputsOf(block.end)) noteAll(input, position);
    blockEnds.push(position++);
  }
  for (const block of flow.order) {
    for (const phi of block.phis) {
      for (const [index, input] of phi.inputs.entries()) {
        const from = block.predecessors[index];
        const at = from && flow.positionOf(from);
        if (at !== undefined) noteAll(input, blockEnds[at] as number);
      }
    }
  }
  // Inner loops come last, and extend what outer ones may extend further.
  for (const { blocks } of flow.loops.toReversed()) {
    const positions = [...blocks].map((block) => flow.positionOf(block) ?? 0);
    const start = blockStarts[Math.min(...positions)] as number;
    const end = blockEnds[Math.max(...positions)] as number;
    for (const extent of extents.values()) {
      if (extent.first < start && extent.last >= start) extent.last = Math.max(extent.last, end);
    }
  }
  return extents;
}

/** Returns the slots that each node may be the address of. */
function addressesOf(fn: IrFunction): Map<Node, Set<Slot>> {
  const slots = new Map<Node, Set<Slot>>();
  for (let isStable = false; !isStable;) {
    isStable = true;
    for (const block of fn.blocks) {
      for (const node of [...block.phis, ...block.nodes]) {
        const { kind } = node.operation;
        const known = slots.get(node);
        const found = new Set(known);
        if (node.operation.kind === "slot") found.add(node.operation.slot);
        else if (kind === "phi" || kind === "address" || kind === "binary" || kind === "opaque") {
          for (const input of node.inputs)
            for (const slot of slots.get(input) ?? []) found.add(slot);
        }
        if (found.size === (known?.size ?? 0)) continue;
        slots.set(node, found);
        isStable = false;
      }
    }
  }
  return slots;
}
