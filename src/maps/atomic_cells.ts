import { describe } from "../types/refusal.ts";
import type { Type } from "../types/type.ts";

/** How an integer of each kind is made of the bits that the engine's atomics give. */
const narrow = {
  i32: (bits: number) => bits,
  u32: (bits: number) => bits >>> 0,
} as const;
const wide = {
  i64: (bits: bigint) => bits,
  u64: (bits: bigint) => BigInt.asUintN(64, bits),
  i64n: (bits: bigint) => Number(bits),
  u64n: (bits: bigint) => Number(BigInt.asUintN(64, bits)),
} as const;

/** Integers in shared memory, each at a multiple of a stride, that are changed in one step. */
export class AtomicCells<V> {
  readonly #kind: string;
  readonly #add: (index: number, amount: V) => V;

  /**
   * @param stride bytes from one integer to the next: a multiple of 8
   * @throws {TypeError} when the type is no integer of 32 or 64 bits in the machine's byte order
   */
  constructor(type: Type<V>, buffer: ArrayBufferLike, stride: number) {
    const { kind } = type;
    this.#kind = kind;
    // The values have the type that the conversion gives, which the kind says and TypeScript cannot tell.
    if (Object.hasOwn(narrow, kind)) {
      const cells = new Int32Array(buffer);
      const convert = narrow[kind as keyof typeof narrow];
      const step = stride / Int32Array.BYTES_PER_ELEMENT;
      this.#add = (index, amount) =>
        convert(Atomics.add(cells, index * step, amount as number)) as V;
    } else if (Object.hasOwn(wide, kind)) {
      const cells = new BigInt64Array(buffer);
      const convert = wide[kind as keyof typeof wide];
      const step = stride / BigInt64Array.BYTES_PER_ELEMENT;
      this.#add = (index, amount) =>
        convert(Atomics.add(cells, index * step, BigInt(amount as number | bigint))) as V;
    } else {
      const names = [...Object.keys(narrow), ...Object.keys(wide)].map((name) => `t.${name}`);
      throw new TypeError(
        `atomicAdd: expected an array of ${names.slice(0, -1).join(", ")} or ${names.at(-1)}, this is one of ${type.name}`,
      );
    }
  }

  /** Adds to an integer and returns what it was before. @throws {TypeError | RangeError} for an amount that it cannot hold */
  add(index: number, amount: V): V {
    checkAmount(this.#kind, amount);
    return this.#add(index, amount);
  }
}

function checkAmount(kind: string, amount: unknown): void {
  const wanted = kind === "i64" || kind === "u64" ? "bigint" : "number";
  if (typeof amount !== wanted) {
    throw new TypeError(`amount: expected a ${wanted} (${kind}), got ${describe(amount)}`);
  }
  const largest = Object.hasOwn(narrow, kind) ? 0xffffffff : Number.MAX_SAFE_INTEGER;
  const isHeld =
    typeof amount === "bigint"
      ? amount > -(2n ** 64n) && amount < 2n ** 64n
      : Number.isInteger(amount) && Math.abs(amount as number) <= largest;
  if (isHeld) return;
  throw new RangeError(
    `amount: expected an integer that ${kind} can hold, got ${describe(amount)}`,
  );
}
