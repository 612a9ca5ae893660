/** @module The graph of registers that live at the same time, and its colouring. */

import { eachRead, eachReadOfEnd, eachWrite, liveAfter, loopDepths } from "./liveness.ts";
import {
  accessOf,
  FIRST_VIRTUAL,
  FRAME,
  isConstantLoad,
  type MachineFunction,
  MOVE,
} from "./machine.ts";

const COLOR_COUNT = 10;
/** Calls keep the registers from 6 on, so values that no call outlives leave those to others. */
const colorOrder = [1, 2, 3, 4, 5, 0, 6, 7, 8, 9];
const PHYSICAL_DEGREE = 0x3fff_ffff;

/** States of nodes in the algorithm. */
const SIMPLE = 1;
const FREEZABLE = 2;
const SPILLABLE = 3;
const STACKED = 4;
const COALESCED = 5;
const COLORED = 6;
const SPILLED = 7;

/** States of copies in the algorithm. */
const WAITING = 0;
const READY = 1;
const DONE = 2;

/** A set of small numbers that can be iterated fast. */
class SparseSet {
  readonly members: Int32Array;
  readonly #places: Int32Array;
  size = 0;

  constructor(capacity: number) {
    this.members = new Int32Array(capacity);
    this.#places = new Int32Array(capacity);
  }

  has(member: number): boolean {
    const place = this.#places[member] as number;
    return place < this.size && this.members[place] === member;
  }

  add(member: number): void {
    if (this.has(member)) return;
    this.#places[member] = this.size;
    this.members[this.size++] = member;
  }

  delete(member: number): void {
    if (!this.has(member)) return;
    const place = this.#places[member] as number;
    const last = this.members[--this.size] as number;
    this.members[place] = last;
    this.#places[last] = place;
  }
}

/** Registers as nodes, interferences as edges. Coalesced registers share a node. */
export class InterferenceGraph {
  readonly #fn: MachineFunction;
  readonly #count: number;
  readonly #isReload: (register: number) => boolean;
  readonly #matrix: Uint32Array;
  readonly #neighbors: number[][] = [];
  readonly #degree: Int32Array;
  readonly #state: Uint8Array;
  readonly #alias: Int32Array;
  readonly #color: Int8Array;
  readonly #cost: Float64Array;
  /** Copies of each node. */
  readonly #copies: number[][] = [];
  readonly #copyTo: number[] = [];
  readonly #copyFrom: number[] = [];
  readonly #copyState: number[] = [];
  readonly #readyCopies: number[] = [];
  readonly #simple: number[] = [];
  readonly #freezable: number[] = [];
  readonly #spillable = new Set<number>();
  readonly #stack: number[] = [];

  constructor(fn: MachineFunction, firstReload: number) {
    const count = fn.registerCount;
    this.#fn = fn;
    this.#count = count;
    this.#isReload = (register) => register >= firstReload;
    this.#matrix = new Uint32Array(((count * (count - 1)) / 2 + 31) >>> 5);
    this.#degree = new Int32Array(count);
    this.#state = new Uint8Array(count);
    this.#alias = new Int32Array(count);
    this.#color = new Int8Array(count).fill(-1);
    this.#cost = new Float64Array(count);
    for (let node = 0; node < count; node++) {
      this.#neighbors.push([]);
      this.#copies.push([]);
      this.#alias[node] = node;
    }
    for (let node = 0; node < COLOR_COUNT; node++) {
      this.#degree[node] = PHYSICAL_DEGREE;
      this.#color[node] = node;
    }
    this.#build();
  }

  /** Returns the machine register of a register after the colouring. */
  colorOf(register: number): number {
    if (register < FIRST_VIRTUAL) return register;
    return this.#color[this.nodeOf(register)] as number;
  }

  /** Returns the node that a register has been coalesced with. */
  nodeOf(register: number): number {
    let node = register;
    while (this.#alias[node] !== node) node = this.#alias[node] as number;
    return node;
  }

  /** Returns true if two registers interfere. */
  interferes(a: number, b: number): boolean {
    if (a === b) return false;
    const place = a > b ? (a * (a - 1)) / 2 + b : (b * (b - 1)) / 2 + a;
    return (((this.#matrix[place >>> 5] as number) >>> (place & 31)) & 1) === 1;
  }

  /** Returns the nodes that a node interferes with. */
  neighborsOf(node: number): Set<number> {
    return new Set(this.#neighbors[node]?.map((neighbor) => this.nodeOf(neighbor)));
  }

  /** Colours the graph. Returns the nodes that find no colour. */
  color(): number[] {
    this.#makeWorklists();
    for (;;) {
      if (this.#simplify()) continue;
      if (this.#coalesce()) continue;
      if (this.#freeze()) continue;
      if (!this.#selectSpill()) break;
    }
    return this.#assignColors();
  }

  #build(): void {
    const { blocks } = this.#fn;
    const after = liveAfter(this.#fn);
    const depths = loopDepths(this.#fn);
    const live = new SparseSet(this.#count);
    let weight = 1;
    const count = (register: number, factor: number) => {
      this.#cost[register] = (this.#cost[register] as number) + weight * factor;
    };
    const addLive = (register: number) => {
      if (register === FRAME) return;
      live.add(register);
      count(register, 1);
    };
    let factor = 1;
    const write = (register: number) => {
      const { members } = live;
      for (let i = 0; i < live.size; i++) this.#addEdge(members[i] as number, register);
      count(register, factor);
    };
    const kill = (register: number) => live.delete(register);
    for (const block of blocks) {
      live.size = 0;
      const out = after[block.index] as Uint32Array;
      for (let word = 0; word < out.length; word++) {
        for (let rest = out[word] as number; rest !== 0; rest &= rest - 1) {
          const register = word * 32 + 31 - Math.clz32(rest & -rest);
          if (register !== FRAME) live.add(register);
        }
      }
      weight = 8 ** (depths[block.index] as number);
      eachReadOfEnd(block, addLive);
      for (let i = block.code.length - 1; i >= 0; i--) {
        const instruction = block.code[i] as (typeof block.code)[number];
        const access = accessOf(instruction);
        const { opcode, dst, src, offset } = instruction;
        if (opcode === MOVE && offset === 0 && src !== FRAME) {
          kill(src);
          const copy = this.#copyTo.length;
          this.#copyTo.push(dst);
          this.#copyFrom.push(src);
          this.#copyState.push(READY);
          this.#copies[dst]?.push(copy);
          if (src !== dst) this.#copies[src]?.push(copy);
        }
        factor = isConstantLoad(instruction) ? -0.5 : 1;
        eachWrite(instruction, access, write);
        eachWrite(instruction, access, kill);
        eachRead(instruction, access, addLive);
      }
    }
    // Copies in inner loops, which come last in the order of blocks, matter most.
    for (let copy = this.#copyTo.length - 1; copy >= 0; copy--) this.#readyCopies.push(copy);
  }

  #addEdge(a: number, b: number): void {
    if (a === b) return;
    const place = a > b ? (a * (a - 1)) / 2 + b : (b * (b - 1)) / 2 + a;
    const word = this.#matrix[place >>> 5] as number;
    const bit = 1 << (place & 31);
    if ((word & bit) !== 0) return;
    this.#matrix[place >>> 5] = word | bit;
    if (a >= COLOR_COUNT) {
      this.#neighbors[a]?.push(b);
      this.#degree[a] = (this.#degree[a] as number) + 1;
    }
    if (b >= COLOR_COUNT) {
      this.#neighbors[b]?.push(a);
      this.#degree[b] = (this.#degree[b] as number) + 1;
    }
  }

  #makeWorklists(): void {
    for (let node = FIRST_VIRTUAL; node < this.#count; node++) {
      if ((this.#degree[node] as number) >= COLOR_COUNT) {
        this.#state[node] = SPILLABLE;
        this.#spillable.add(node);
      } else this.#enqueue(node);
    }
  }

  /** Puts a node of low degree into its list. */
  #enqueue(node: number): void {
    const isMoved = this.#isMoveRelated(node);
    this.#state[node] = isMoved ? FREEZABLE : SIMPLE;
    (isMoved ? this.#freezable : this.#simple).push(node);
  }

  #isMoveRelated(node: number): boolean {
    const copies = this.#copies[node] as number[];
    for (let i = 0; i < copies.length; i++) {
      if (this.#copyState[copies[i] as number] !== DONE) return true;
    }
    return false;
  }

  #isInGraph(node: number): boolean {
    return this.#state[node] !== STACKED && this.#state[node] !== COALESCED;
  }

  /** Takes a node of low degree without copies out of the graph. */
  #simplify(): boolean {
    for (;;) {
      const node = this.#simple.pop();
      if (node === undefined) return false;
      if (this.#state[node] !== SIMPLE) continue;
      this.#state[node] = STACKED;
      this.#stack.push(node);
      for (const neighbor of this.#neighbors[node] as number[]) {
        if (this.#isInGraph(neighbor)) this.#decrementDegree(neighbor);
      }
      return true;
    }
  }

  #decrementDegree(node: number): void {
    if (node < COLOR_COUNT) return;
    const degree = this.#degree[node] as number;
    this.#degree[node] = degree - 1;
    if (degree !== COLOR_COUNT) return;
    this.#enableCopies(node);
    for (const neighbor of this.#neighbors[node] as number[]) {
      if (this.#isInGraph(neighbor)) this.#enableCopies(neighbor);
    }
    if (this.#state[node] !== SPILLABLE) return;
    this.#spillable.delete(node);
    this.#enqueue(node);
  }

  /** Tries the copies of a node again. */
  #enableCopies(node: number): void {
    for (const copy of this.#copies[node] as number[]) {
      if (this.#copyState[copy] !== WAITING) continue;
      this.#copyState[copy] = READY;
      this.#readyCopies.push(copy);
    }
  }

  /** Merges the two sides of a copy, if that does not make the graph harder to colour. */
  #coalesce(): boolean {
    const copy = this.#readyCopies.pop();
    if (copy === undefined) return false;
    if (this.#copyState[copy] !== READY) return true;
    const to = this.nodeOf(this.#copyTo[copy] as number);
    const from = this.nodeOf(this.#copyFrom[copy] as number);
    const [kept, merged] = from < COLOR_COUNT ? [from, to] : [to, from];
    this.#copyState[copy] = DONE;
    if (kept === merged) this.#simplifyLater(kept);
    else if (merged < COLOR_COUNT || this.interferes(kept, merged)) {
      this.#simplifyLater(kept);
      this.#simplifyLater(merged);
    } else if (kept < COLOR_COUNT ? this.#isSafeFor(merged, kept) : this.#isSafe(kept, merged)) {
      this.#merge(kept, merged);
      this.#simplifyLater(kept);
    } else this.#copyState[copy] = WAITING;
    return true;
  }

  #simplifyLater(node: number): void {
    if (node < COLOR_COUNT || this.#isMoveRelated(node)) return;
    if ((this.#degree[node] as number) >= COLOR_COUNT || this.#state[node] !== FREEZABLE) return;
    this.#state[node] = SIMPLE;
    this.#simple.push(node);
  }

  /** Returns true if each neighbor of a node has a low degree or interferes with a machine register already (George's test). */
  #isSafeFor(node: number, physical: number): boolean {
    return (this.#neighbors[node] as number[]).every(
      (neighbor) =>
        !this.#isInGraph(neighbor) ||
        neighbor < COLOR_COUNT ||
        (this.#degree[neighbor] as number) < COLOR_COUNT ||
        this.interferes(neighbor, physical),
    );
  }

  /** Returns true if the merged node would have fewer neighbors of high degree than there are registers (Briggs's test). */
  #isSafe(a: number, b: number): boolean {
    const degrees = this.#degree;
    if ((degrees[a] as number) + (degrees[b] as number) < COLOR_COUNT) return true;
    let high = 0;
    const ofA = this.#neighbors[a] as number[];
    for (let i = 0; i < ofA.length; i++) {
      const neighbor = ofA[i] as number;
      const degree = degrees[neighbor] as number;
      if (degree < COLOR_COUNT || !this.#isInGraph(neighbor)) continue;
      // The degree of a common neighbor falls by one.
      if (degree === COLOR_COUNT && this.interferes(neighbor, b)) continue;
      if (++high === COLOR_COUNT) return false;
    }
    const ofB = this.#neighbors[b] as number[];
    for (let i = 0; i < ofB.length; i++) {
      const neighbor = ofB[i] as number;
      if ((degrees[neighbor] as number) < COLOR_COUNT || !this.#isInGraph(neighbor)) continue;
      if (this.interferes(neighbor, a)) continue;
      if (++high === COLOR_COUNT) return false;
    }
    return true;
  }

  #merge(kept: number, merged: number): void {
    if (this.#state[merged] === SPILLABLE) this.#spillable.delete(merged);
    this.#state[merged] = COALESCED;
    this.#alias[merged] = kept;
    this.#cost[kept] = (this.#cost[kept] as number) + (this.#cost[merged] as number);
    this.#copies[kept]?.push(...(this.#copies[merged] as number[]));
    this.#enableCopies(merged);
    for (const neighbor of this.#neighbors[merged] as number[]) {
      if (!this.#isInGraph(neighbor)) continue;
      this.#addEdge(neighbor, kept);
      this.#decrementDegree(neighbor);
    }
    if (kept < COLOR_COUNT) return;
    if ((this.#degree[kept] as number) >= COLOR_COUNT && this.#state[kept] === FREEZABLE) {
      this.#state[kept] = SPILLABLE;
      this.#spillable.add(kept);
    }
  }

  /** Gives up the copies of a node of low degree. */
  #freeze(): boolean {
    for (;;) {
      const node = this.#freezable.pop();
      if (node === undefined) return false;
      if (this.#state[node] !== FREEZABLE) continue;
      this.#state[node] = SIMPLE;
      this.#simple.push(node);
      this.#freezeCopies(node);
      return true;
    }
  }

  #freezeCopies(node: number): void {
    for (const copy of this.#copies[node] as number[]) {
      if (this.#copyState[copy] === DONE) continue;
      this.#copyState[copy] = DONE;
      this.#simplifyLater(this.nodeOf(this.#copyTo[copy] as number));
      this.#simplifyLater(this.nodeOf(this.#copyFrom[copy] as number));
    }
  }

  /** Takes the node out of the graph that costs least on the stack. It may find a colour yet. */
  #selectSpill(): boolean {
    let best = -1;
    let bestCost = Number.POSITIVE_INFINITY;
    for (const node of this.#spillable) {
      const cost = this.#isReload(node)
        ? Number.MAX_VALUE
        : (this.#cost[node] as number) / (this.#degree[node] as number);
      if (cost >= bestCost) continue;
      best = node;
      bestCost = cost;
    }
    if (best < 0) return false;
    this.#spillable.delete(best);
    this.#state[best] = SIMPLE;
    this.#simple.push(best);
    this.#freezeCopies(best);
    return true;
  }

  #assignColors(): number[] {
    const spilled: number[] = [];
    for (let node = this.#stack.pop(); node !== undefined; node = this.#stack.pop()) {
      let taken = 0;
      for (const neighbor of this.#neighbors[node] as number[]) {
        const color = this.#color[this.nodeOf(neighbor)] as number;
        if (color >= 0) taken |= 1 << color;
      }
      const color = this.#preferredColor(node, taken);
      if (color === undefined) {
        this.#state[node] = SPILLED;
        spilled.push(node);
      } else {
        this.#state[node] = COLORED;
        this.#color[node] = color;
      }
    }
    if (spilled.some(this.#isReload)) throw new Error("a reloaded value found no register");
    return spilled;
  }

  /** Returns a free colour: that of the other side of a copy, if possible. */
  #preferredColor(node: number, taken: number): number | undefined {
    for (const copy of this.#copies[node] as number[]) {
      for (const side of [this.#copyTo[copy] as number, this.#copyFrom[copy] as number]) {
        const color = this.#color[this.nodeOf(side)] as number;
        if (color >= 0 && (taken & (1 << color)) === 0) return color;
      }
    }
    return colorOrder.find((color) => (taken & (1 << color)) === 0);
  }
}
