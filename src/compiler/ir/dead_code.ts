/** @module Removes nodes whose value nothing uses. */

import { effectOf, inputsOf, type IrFunction, type Node } from "./ir.ts";
import { type SlotUses, usesOfSlots } from "./slot_uses.ts";

/** Helpers whose only effect is their result. */
const withoutEffect = new Set<string>([
  "map_lookup_elem",
  "ktime_get_ns",
  "ktime_get_boot_ns",
  "ktime_get_coarse_ns",
  "get_prandom_u32",
  "get_smp_processor_id",
  "get_numa_node_id",
  "get_current_pid_tgid",
  "get_current_uid_gid",
  "get_current_cgroup_id",
  "get_current_task",
  "get_current_task_btf",
]);

/** Removes nodes whose value nothing uses, and stores to slots that nothing reads. */
export function removeDeadCode(fn: IrFunction): void {
  const slots = usesOfSlots(fn, "store");
  const used = new Set<Node>();
  const open: Node[] = [];
  const use = (node: Node) => {
    if (used.has(node)) return;
    used.add(node);
    open.push(node);
  };
  for (const block of fn.blocks) {
    for (const node of block.nodes) if (isNeeded(node, slots)) use(node);
    for (const input of inputsOf(block.end)) use(input);
  }
  for (let node = open.pop(); node !== undefined; node = open.pop()) node.inputs.forEach(use);
  for (const block of fn.blocks) {
    const phis = block.phis.filter((phi) => used.has(phi));
    block.phis.splice(0, Infinity, ...phis);
    const nodes = block.nodes.filter((node) => used.has(node));
    block.nodes.splice(0, Infinity, ...nodes);
  }
}

function isNeeded(node: Node, { addresses, otherwiseUsed }: SlotUses): boolean {
  const { operation, inputs } = node;
  if (operation.kind === "callHelper") return !withoutEffect.has(operation.helper);
  if (operation.kind === "store") {
    const slot = addresses.get(inputs[0] as Node);
    return slot === undefined || otherwiseUsed.has(slot);
  }
  return effectOf(operation) === "write";
}
