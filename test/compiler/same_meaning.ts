/** Runs functions of kernel code in JavaScript and in the kernel, and compares what they do. */
import { ArrayMap, HashMap, Program, RingBuf, t } from "../../src/index.ts";
import { bpf } from "../../src/compiler/bpf.ts";
import { ScopeMaps, translate } from "../../src/compiler/language/translate.ts";
import { BpfFunction } from "../../src/compiler/language/shared_values.ts";
import { SimulatedMap, SimulatedRing, simulatedLibrary } from "./simulated_memory.ts";
import { toJavaScript } from "./simulate.ts";
import { runningTarget } from "../../src/compiler/machine/target.ts";
import { Sources } from "../../src/compiler/source/source.ts";
import type { AnyType } from "../../src/maps/map_options.ts";

const Row = t.struct({ small: t.u8, short: t.i16, big: t.i64, name: t.cstring(6) });
const Event = t.struct({ n: t.i32, big: t.u64, flag: t.bool, name: t.cstring(8) });
const table = Object.freeze([3, 1, 4, 1, 5, 9]);
const options = Object.freeze({ limit: 50 });
const twice = new BpfFunction(
  { factor: 2 },
  (({ factor }: { factor: number }, x: number) => (x * factor) | 0) as never,
);

/** The kernel's side: maps and rings that all functions use. */
export class KernelWorld implements Disposable {
  readonly #opened = new DisposableStack();
  readonly scope;
  readonly maps;
  readonly events;
  readonly total;

  constructor() {
    const numbers = this.#opened.use(new ArrayMap({ value: t.i32, length: 8 }));
    const unsigned = this.#opened.use(new ArrayMap({ value: t.u64, length: 4 }));
    const signed = this.#opened.use(new ArrayMap({ value: t.i64, length: 4 }));
    const counts = this.#opened.use(new HashMap({ key: t.u32, value: t.u64, maxEntries: 64 }));
    const rows = this.#opened.use(new HashMap({ key: t.u32, value: Row, maxEntries: 64 }));
    const named = this.#opened.use(
      new HashMap({ key: t.cstring(6), value: t.u32, maxEntries: 64 }),
    );
    this.events = this.#opened.use(new RingBuf({ size: 1 << 16, event: Event }));
    this.total = this.#opened.use(bpf.global(t.u64, 0n));
    this.maps = { numbers, unsigned, signed, counts, rows, named };
    this.scope = {
      ...this.maps,
      events: this.events,
      total: this.total,
      table,
      options,
      twice,
      Row,
    };
  }

  [Symbol.dispose](): void {
    this.#opened.dispose();
  }
}

/** The values that maps have before a run. */
export interface Inputs {
  readonly numbers: readonly number[];
  readonly unsigned: readonly bigint[];
  readonly signed: readonly bigint[];
  readonly counts: readonly (readonly [number, bigint])[];
  readonly rows: readonly (readonly [number, t.Infer<typeof Row>])[];
  readonly named: readonly (readonly [string, number])[];
}

/** The effects of a run. */
export interface Outcome {
  readonly result: number;
  readonly maps: Readonly<Record<string, readonly string[]>>;
  readonly records: readonly unknown[];
  readonly total: bigint;
}

const show = (value: unknown): string =>
  JSON.stringify(value, (_, each: unknown) => (typeof each === "bigint" ? `${each}n` : each));

/** A function, compiled for the kernel and as JavaScript. */
export class BothSides implements Disposable {
  readonly #world: KernelWorld;
  readonly #program: Program;
  readonly #javaScript: (...args: readonly unknown[]) => unknown;

  constructor(world: KernelWorld, text: string) {
    this.#world = world;
    const fn = new Function(`return ${text}`)() as (...args: never[]) => unknown;
    const sources = new Sources();
    const { signs, node } = translate({
      sources,
      fn,
      place: "socket",
      scope: world.scope,
      maps: new ScopeMaps(),
      members: { names: [], property: () => undefined },
      results: { none: 0 },
      probe: "socket",
      target: runningTarget(),
    });
    this.#javaScript = toJavaScript(text, node, signs);
    const programs = bpf.load(world.scope, { socket: fn as () => number });
    this.#program = programs.socket;
  }

  [Symbol.dispose](): void {
    this.#program[Symbol.dispose]();
  }

  inKernel(inputs: Inputs): Outcome {
    const { maps, events, total } = this.#world;
    for (const [index, value] of inputs.numbers.entries()) maps.numbers.set(index, value);
    for (const [index, value] of inputs.unsigned.entries()) maps.unsigned.set(index, value);
    for (const [index, value] of inputs.signed.entries()) maps.signed.set(index, value);
    for (const name of ["counts", "rows", "named"] as const) {
      maps[name].clear();
      for (const [key, value] of inputs[name]) maps[name].set(key as never, value as never);
    }
    total.value = 77n;
    const records: unknown[] = [];
    events.drain(() => {});
    const { returnValue } = this.#program.testRun({ data: new Uint8Array(14) });
    events.drain((record) => records.push(record));
    return {
      result: returnValue | 0,
      maps: Object.fromEntries(
        Object.entries(maps).map(([name, map]) => [
          name,
          [...map].map((entry) => show(entry)).sort(),
        ]),
      ),
      records,
      total: total.value,
    };
  }

  inJavaScript(inputs: Inputs): Outcome {
    const { maps, total } = this.#world;
    const simulated = Object.fromEntries(
      Object.entries(maps).map(([name, map]) => {
        const { key, value } = map.types as { key?: AnyType; value: AnyType };
        const isArray = key === undefined;
        return [name, new SimulatedMap(key, value, map.maxEntries, isArray)];
      }),
    );
    for (const [name, values] of Object.entries(inputs)) {
      const map = simulated[name] as SimulatedMap;
      const entries = (typeof values[0] === "object" ? values : [...values.entries()]) as [
        unknown,
        unknown,
      ][];
      for (const [key, value] of entries) map.set(key, value);
    }
    const events = new SimulatedRing(Event);
    const sum = {
      bits: 77n,
      get value() {
        return this.bits;
      },
      set value(value: bigint) {
        this.bits = BigInt.asUintN(64, value);
      },
      add(value: bigint) {
        this.value += value;
      },
    };
    void total;
    const result = this.#javaScript(
      {},
      {
        ...simulated,
        events,
        total: sum,
        table,
        options,
        twice: (x: number) => (x * 2) | 0,
        Row,
        k: simulatedLibrary,
      },
    ) as number;
    return {
      result: result | 0,
      maps: Object.fromEntries(
        Object.entries(simulated).map(([name, map]) => {
          const isArray = ["numbers", "unsigned", "signed"].includes(name);
          const entries = isArray
            ? Array.from({ length: map.length }, (_, index) => [index, map.get(index)])
            : map.entries();
          return [name, entries.map((entry) => show(entry)).sort()];
        }),
      ),
      records: events.records,
      total: sum.value,
    };
  }
}

const numbersPool = [0, 1, -1, 2, 7, 8, 31, 255, -128, 2 ** 31 - 1, -(2 ** 31), 12_345_678];
const bigintPool = [
  0n,
  1n,
  2n,
  63n,
  2n ** 31n,
  2n ** 32n - 1n,
  2n ** 63n - 1n,
  2n ** 63n,
  2n ** 64n - 1n,
  123_456_789_012n,
];

/** Returns random inputs. */
export function randomInputs(random: (bound: number) => number): Inputs {
  const pick = <T>(items: readonly T[]): T => items[random(items.length)] as T;
  const number = () => (random(3) === 0 ? random(2 ** 31) - random(2 ** 31) : pick(numbersPool));
  const unsigned = () => pick(bigintPool);
  const row = () => ({
    small: random(256),
    short: random(65_536) - 32_768,
    big: BigInt.asIntN(64, unsigned()),
    name: pick(["", "a", "abc", "ab", "abcde"]),
  });
  const some = (limit: number) => Array.from({ length: random(limit) }, (_, index) => index);
  return {
    numbers: Array.from({ length: 8 }, number),
    unsigned: Array.from({ length: 4 }, unsigned),
    signed: Array.from({ length: 4 }, () => BigInt.asIntN(64, unsigned())),
    counts: some(6).map((key) => [key, unsigned()]),
    rows: some(4).map((key) => [key, row()]),
    named: ["", "a", "abc", "abcde"].slice(random(5)).map((name) => [name, random(2 ** 31)]),
  };
}
