/** @module Computes equal values once, and reads memory of the stack once. */

import { Flow } from "./flow.ts";
import { type Block, effectOf, type IrFunction, type Node, rootOf, type Slot } from "./ir.ts";
import { forwardUses, resolverOf } from "./rewrite.ts";
import { usesOfSlots } from "./slot_uses.ts";

/** The value of some bytes in memory. */
interface Cell {
  readonly base: Node;
  readonly slot: Slot | undefined;
  readonly offset: number;
  readonly size: number;
  /** The value that was stored, or that a load has read. */
  readonly value: Node;
  /** The load, if the value was read. */
  readonly load: Node | undefined;
}

/** Replaces nodes that compute the same as a node that always runs before them. */
export function shareValues(fn: IrFunction): void {
  const flow = new Flow(fn);
  const replaced = new Map<Node, Node>();
  const resolve = resolverOf(replaced);
  // The other slots are only loaded and stored.
  const { otherwiseUsed: escaping } = usesOfSlots(fn, "load", "store");
  const known = new Map<string, Node[]>();
  const cellsAtEnd = new Map<Block, Cell[]>();
  const constants: Node[] = [];
  for (const block of flow.order) {
    const [only, ...others] = block.predecessors;
    let cells = only !== undefined && others.length === 0 ? [...(cellsAtEnd.get(only) ?? [])] : [];
    const kept: Node[] = [];
    for (const node of block.nodes) {
      for (const [index, input] of node.inputs.entries()) node.inputs[index] = resolve(input);
      const { operation } = node;
      const effect = effectOf(operation);
      if (effect === "none" && operation.kind !== "opaque") {
        const key = keyOf(node);
        const same = known.get(key)?.find((other) => flow.dominates(other.block, block));
        if (same !== undefined) {
          replaced.set(node, same);
          continue;
        }
        if (isLoadedWhereUsed(node)) {
          // In the first block, it runs before all that is equal.
          node.block = fn.entry;
          constants.push(node);
          known.set(key, [node]);
          continue;
        }
        const list = known.get(key);
        if (list === undefined) known.set(key, [node]);
        else list.push(node);
      } else if (operation.kind === "load") {
        const place = placeOf(node);
        const cell = cells.find(
          (each) =>
            isSameBase(each, place) && each.offset === place.offset && each.size === operation.size,
        );
        const value = cell && valueOf(fn, cell, node, kept);
        if (value !== undefined) {
          replaced.set(node, value);
          continue;
        }
        cells.push({ ...place, size: operation.size, value: node, load: node });
      } else if (operation.kind === "store") {
        const place = { ...placeOf(node), size: operation.size };
        cells = cells.filter((cell) => !mayOverlap(cell, place, escaping));
        cells.push({ ...place, value: node.inputs[1] as Node, load: undefined });
      } else {
        cells = cells.filter(({ slot }) => slot !== undefined && !escaping.has(slot));
      }
      kept.push(node);
    }
    block.nodes.splice(0, Infinity, ...kept);
    cellsAtEnd.set(block, cells);
  }
  fn.entry.nodes.unshift(...constants);
  if (replaced.size > 0) forwardUses(fn, replaced);
}

/** Returns true for values that take no register until they are used. */
function isLoadedWhereUsed({ operation: { kind } }: Node): boolean {
  return kind === "constant" || kind === "slot" || kind === "map" || kind === "mapValue";
}

/** Returns a text that is the same for nodes that compute the same. */
function keyOf({ operation, inputs }: Node): string {
  const ids = inputs.map(({ id }) => id).join(",");
  switch (operation.kind) {
    case "slot":
      return `slot ${numberOf(operation.slot)}`;
    case "map":
    case "mapValue":
      return `${operation.kind} ${typeof operation.map === "string" ? operation.map : operation.map.fd} ${"offset" in operation ? operation.offset : ""}`;
    case "functionAddress":
      return `function ${numberOf(operation.function)}`;
    default:
      return `${JSON.stringify(operation, (_, value: unknown) => (typeof value === "bigint" ? `${value}` : value))} ${ids}`;
  }
}

const numbers = new WeakMap<object, number>();
let nextNumber = 0;

/** Returns a number that tells slots and functions apart. */
function numberOf(object: Slot | IrFunction): number {
  let number = numbers.get(object);
  if (number === undefined) numbers.set(object, (number = nextNumber++));
  return number;
}

/** Returns the base and the offset of a load or store. */
function placeOf(node: Node): { base: Node; slot: Slot | undefined; offset: number } {
  let base = node.inputs[0] as Node;
  let offset = (node.operation as { offset: number }).offset;
  while (base.operation.kind === "address" && base.inputs.length === 1) {
    offset += base.operation.offset;
    base = base.inputs[0] as Node;
  }
  // An address at a variable place is a base of its own: its slot is that of the memory around it.
  const { operation } = rootOf(base);
  const slot = operation.kind === "slot" ? operation.slot : undefined;
  return { base, slot, offset };
}

type Place = Pick<Cell, "base" | "slot" | "offset">;

function isSameBase(first: Place, second: Place): boolean {
  if (first.base === second.base) return true;
  const [a, b] = [first.base.operation, second.base.operation];
  return a.kind === "slot" && b.kind === "slot" && a.slot === b.slot;
}

/** Returns true unless a store certainly leaves the bytes of a cell as they are. */
function mayOverlap(
  cell: Cell,
  store: Place & { readonly size: number },
  escaping: ReadonlySet<Slot>,
): boolean {
  if (isSameBase(cell, store)) {
    return cell.offset < store.offset + store.size && store.offset < cell.offset + cell.size;
  }
  if (cell.slot !== undefined && store.slot !== undefined) return cell.slot === store.slot;
  const slot = cell.slot ?? store.slot;
  // Memory that is not on the stack is apart from slots whose address nothing else has.
  return slot === undefined || escaping.has(slot);
}

/** Returns the value that a load reads from a cell; it appends a node if the stored value must be cut. */
function valueOf(fn: IrFunction, cell: Cell, load: Node, nodes: Node[]): Node | undefined {
  const { operation } = load;
  if (operation.kind !== "load") return undefined;
  const { size, signed } = operation;
  if (cell.load !== undefined) {
    const other = cell.load.operation;
    return other.kind === "load" && (other.signed === signed || size === 8)
      ? cell.value
      : undefined;
  }
  if (size === 8) return cell.value;
  const bits = (size * 8) as 8 | 16 | 32;
  const value = fn.newNode(
    load.block,
    { kind: "extend", bits, signed },
    [cell.value],
    load.position,
  );
  value.isNumber = load.isNumber;
  value.range = load.range;
  nodes.push(value);
  return value;
}
