import { describe, expect } from "bun:test";
import { ArrayMap, asm, DisposedError, type MapFlag, Program, t } from "../../src/index.ts";
import { bpfTest } from "../support/privilege.ts";
import { withRandom } from "../types/random.ts";
import { endWorker } from "../support/end_worker.ts";

const integers = [t.u32, t.i32, t.u64, t.i64, t.u64Number, t.i64Number] as const;

describe("load and store of a mapped array", () => {
  bpfTest("access the same values as get and set", () => {
    const value = t.struct({ a: t.u8, b: t.be32, name: t.cstring(9) });
    using map = new ArrayMap({ value, length: 5, mmap: true });
    const one = { a: 1, b: 2, name: "three" };
    expect(map.store(4, one)).toBe(map);
    expect(map.get(4)).toEqual(one);
    map.set(0, { ...one, a: 9 });
    expect(map.load(0)).toEqual({ ...one, a: 9 });
    expect(map.load(3)).toEqual({ a: 0, b: 0, name: "" });
  });

  bpfTest("return undefined and throw outside the array", () => {
    using map = new ArrayMap({ value: t.u32, length: 2, mmap: true, name: "two" });
    const before = [...map.values()];
    for (const index of [2, -1, 0.5, Number.NaN, 2 ** 32]) {
      expect(map.load(index)).toBeUndefined();
      expect(() => map.store(index, 1)).toThrow(
        /^index of array map "two": expected an integer from 0 to 1, got /,
      );
      expect(() => map.atomicAdd(index, 1)).toThrow(RangeError);
    }
    expect([...map.values()]).toEqual(before);
  });

  bpfTest("require mmap: true and an open map", () => {
    using plain = new ArrayMap({ value: t.u32, length: 1 });
    const disposed = new ArrayMap({ value: t.u32, length: 1, mmap: true });
    disposed.load(0);
    disposed[Symbol.dispose]();
    for (const use of [
      (map: ArrayMap<t.Type<number>>) => map.load(0),
      (map: ArrayMap<t.Type<number>>) => map.store(0, 1),
      (map: ArrayMap<t.Type<number>>) => map.atomicAdd(0, 1),
    ]) {
      expect(() => use(plain)).toThrow(/mmap: true/);
      expect(() => use(disposed)).toThrow(DisposedError);
    }
  });

  bpfTest("reject a value as set does", () => {
    using map = new ArrayMap({ value: t.u32, length: 1, mmap: true, name: "one" });
    expect(() => map.store(0, -1)).toThrow(/^value of array map "one": expected an integer/);
    expect(map.load(0)).toBe(0);
  });
});

const Record = t.struct({
  count: t.u64Number,
  big: t.u64,
  flag: t.bool,
  port: t.be16,
  name: t.cstring(9),
  raw: t.bytes(5),
  list: t.array(t.i16, 3),
});
const record = {
  ...{ count: 7, big: 2n ** 60n, flag: true, port: 443, name: "seven" },
  ...{ raw: new Uint8Array([1, 2, 3, 4, 5]), list: [-1, 0, 1] },
};

/** Ways to get a map that may not be written: flags of its creation, and the conversion of a writable object to a read-only one. */
const readOnlyMaps: Readonly<Record<string, readonly [flags: MapFlag[], (map: Mapped) => Mapped]>> =
  {
    "that is frozen": [[], (map) => map.freeze().dup()],
    "opened with rdonly": [
      [],
      (map) => ArrayMap.fromId(map.id, { ...map.types, flags: ["rdonly"] }),
    ],
    "with rdonly_prog": [["rdonly_prog"], (map) => map.dup()],
    "that was frozen before it was opened": [
      ["rdonly_prog"],
      (map) => ArrayMap.fromId(map.freeze().id, map.types),
    ],
  };
type Mapped = ArrayMap<typeof Record>;

describe.each(Object.entries(readOnlyMaps))("the view of an array %s", (_name, [flags, open]) => {
  const options = { value: Record, length: 3, mmap: true, name: "constants", flags } as const;

  bpfTest("has the values, and load() returns them", () => {
    using map = new ArrayMap(options).set(1, record);
    using opened = open(map);
    expect(opened.load(1)).toEqual(record);
    expect(opened.load(2)).toEqual(map.get(2) as typeof record);
    expect(opened.load(3)).toBeUndefined();
    const { view } = opened;
    expect(view).toBeInstanceOf(DataView);
    expect(view.byteLength).toBe(3 * opened.stride);
    expect([view.getUint32(opened.stride, true), view.getUint16(opened.stride + 18)]).toEqual([
      7, 443,
    ]);
    // Often enough for the engine to compile it: compiled loads must not write.
    let sum = 0;
    for (let round = 0; round < 200_000; round++) sum += view.getUint32(opened.stride, true);
    for (let round = 0; round < 20_000; round++) sum += opened.load(1)?.count ?? 0;
    expect(sum).toBe(7 * 220_000);
    opened[Symbol.dispose]();
    expect(() => view.getUint8(0)).toThrow(TypeError);
    expect(() => opened.view).toThrow(DisposedError);
  });

  bpfTest("throws at every store, which would end the process", () => {
    using map = new ArrayMap(options).set(1, record);
    using opened = open(map);
    const { view } = opened;
    const setters = Reflect.ownKeys(DataView.prototype).filter((name) => /^set/.test(String(name)));
    expect(setters).toContain("setBigUint64");
    const stores: readonly (() => unknown)[] = [
      ...setters.map(
        (name) => () => (view as any)[name](0, name.toString().includes("Big") ? 1n : 1),
      ),
      () => new Uint8Array(view.buffer).fill(1),
      () => Atomics.load(new Int32Array(view.buffer), 0),
      () => Record.write(view, 0, record),
      () => opened.store(0, record),
    ];
    for (const store of stores) {
      expect(store).toThrow(TypeError);
      expect(store).toThrow(
        /^the view of the array map "constants" is read-only, because the map is frozen/,
      );
    }
    expect(map.get(0)).toEqual({ ...map.get(2)! });
    expect(map.get(1)).toEqual(record);
  });

  bpfTest("throws at atomic additions", () => {
    using map = new ArrayMap({ value: t.u32, length: 1, mmap: true, flags });
    using opened = open(map as never) as unknown as ArrayMap<typeof t.u32>;
    expect(() => opened.atomicAdd(0, 1)).toThrow(/is read-only/);
    expect(opened.load(0)).toBe(0);
  });
});

describe("an array that is mapped read-only", () => {
  bpfTest("shows stores of others", () => {
    using map = new ArrayMap({ value: t.u32, length: 2, mmap: true });
    using reader = ArrayMap.fromId(map.id, { value: t.u32, flags: ["rdonly"] });
    const { view } = reader;
    expect(view.getUint32(8, true)).toBe(0);
    map.set(1, 5);
    expect([view.getUint32(8, true), reader.load(1)]).toEqual([5, 5]);
    map.store(1, 6);
    expect([view.getUint32(8, true), reader.load(1)]).toEqual([6, 6]);
    expect(() => reader.set(1, 7)).toThrow(/EPERM/);
    // A read-only mapping does not prevent freezing.
    map[Symbol.dispose]();
    using again = ArrayMap.fromId(reader.id, { value: t.u32 });
    expect(again.freeze().load(1)).toBe(6);
  });

  bpfTest("must permit reading", () => {
    using map = new ArrayMap({ value: t.u32, length: 2, mmap: true });
    using writer = ArrayMap.fromId(map.id, { value: t.u32, flags: ["wronly"] });
    for (const use of [() => writer.view, () => writer.load(0), () => writer.store(0, 1)]) {
      expect(use).toThrow(expect.objectContaining({ code: "EACCES", syscall: "mmap" }));
      expect(use).toThrow(/without the right to read it$/);
    }
    expect(writer.set(0, 3) && map.get(0)).toBe(3);
  });
});

describe("atomic addition in a mapped array", () => {
  for (const type of integers) {
    bpfTest(`of t.${type.kind} wraps around as in C`, () => {
      withRandom((random) => {
        const isBig = typeof type.min === "bigint";
        using map = new ArrayMap<t.Type<number | bigint>>({ value: type, length: 3, mmap: true });
        const bits = type.size * 8;
        const wrap = (sum: bigint) =>
          type.signed ? BigInt.asIntN(bits, sum) : BigInt.asUintN(bits, sum);
        let sum = 0n;
        for (let i = 0; i < 500; i++) {
          const amount =
            BigInt.asIntN(bits === 32 ? 32 : 53, random.bits64()) >> BigInt(random.below(52));
          const before = map.atomicAdd(1, isBig ? amount : Number(amount));
          expect(before).toBe(isBig ? sum : Number(sum));
          sum = wrap(sum + amount);
          // Rounding of numbers past 2^53 would look like an error in the next comparison.
          if (!isBig && (sum > 2n ** 53n || sum < -(2n ** 53n))) {
            map.store(1, 0);
            sum = 0n;
          }
        }
        expect(map.load(1)).toBe(isBig ? sum : Number(sum));
        expect([map.load(0), map.load(2)]).toEqual(isBig ? [0n, 0n] : [0, 0]);
      });
    });
  }

  bpfTest("throws for other types and for amounts that do not fit", () => {
    using text = new ArrayMap({ value: t.cstring(8), length: 1, mmap: true });
    // @ts-expect-error a text is not an integer
    expect(() => text.atomicAdd(0, "1")).toThrow(/expected an array of t\.i32, .* or t\.u64Number/);
    using wire = new ArrayMap({ value: t.be32, length: 1, mmap: true });
    expect(() => wire.atomicAdd(0, 1)).toThrow(/got an array of be32/);
    using narrow = new ArrayMap<t.Type<unknown>>({ value: t.u32, length: 1, mmap: true });
    for (const amount of [0.5, 2 ** 32, Number.NaN, Number.POSITIVE_INFINITY]) {
      expect(() => narrow.atomicAdd(0, amount)).toThrow(/expected an integer that u32 can hold/);
    }
    expect(() => narrow.atomicAdd(0, 1n)).toThrow(/expected a number \(u32\), got 1n/);
    using large = new ArrayMap<t.Type<unknown>>({ value: t.u64, length: 1, mmap: true });
    expect(() => large.atomicAdd(0, 1)).toThrow(/expected a bigint \(u64\), got 1/);
    expect(() => large.atomicAdd(0, 2n ** 64n)).toThrow(RangeError);
    expect([narrow.load(0), large.load(0)]).toEqual([0, 0n]);
  });

  for (const [type, add] of [
    [t.u32, asm.atomicAdd32],
    [t.u64Number, asm.atomicAdd],
  ] as const) {
    bpfTest(`of t.${type.kind} loses no addition by a program on another CPU`, async () => {
      using map = new ArrayMap({ value: type, length: 1, mmap: true });
      const { r0, r1, r2 } = asm;
      using program = new Program({
        section: "socket",
        license: "GPL",
        maps: { map },
        code: [
          asm.ldMapValue(r1, "map", 0),
          asm.mov(r2, 1),
          add(r1, 0, r2),
          asm.mov(r0, 0),
          asm.exit(),
        ],
      });
      const runs = 200_000;
      await using worker = new WorkerRuns(program.fd, runs);
      await worker.started;
      let added = 0;
      // The loop runs at least once, even if this thread gets no CPU until the other one has ended.
      do {
        for (let i = 0; i < 1000; i++) map.atomicAdd(0, 1);
        added += 1000;
      } while (!worker.isDone());
      expect(added).toBeGreaterThan(0);
      expect(map.load(0)).toBe(runs + added);
    });
  }
});

/** Runs a program many times on another thread. */
class WorkerRuns implements AsyncDisposable {
  readonly #worker: Worker;
  readonly #state = new Int32Array(new SharedArrayBuffer(4));
  readonly started: Promise<void>;

  constructor(fd: number, runs: number) {
    this.#worker = new Worker(new URL("./children/program_runs.ts", import.meta.url));
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#worker.onmessage = () => resolve();
    this.started = promise;
    this.#worker.postMessage({ fd, runs, state: this.#state });
  }

  isDone(): boolean {
    return Atomics.load(this.#state, 0) === 1;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await endWorker(this.#worker);
  }
}
