/** Errors of per-CPU values, and the contents of the map after them. */
import { describe, expect } from "bun:test";
import {
  BpfError,
  LruPerCpuHashMap,
  PerCpuArrayMap,
  PerCpuHashMap,
  possibleCpus,
  t,
} from "../../src/index.ts";
import { bpfTest } from "../support/privilege.ts";

const cpus = possibleCpus();
const numbers = { key: t.u32, value: t.u32, name: "counts" };
const values = { value: t.u32, name: "counts" };
const each = (value: number) => cpus.map(() => value);

describe("errors of per-CPU values", () => {
  const makers = {
    PerCpuHashMap: () => new PerCpuHashMap({ ...numbers, maxEntries: 4 }),
    LruPerCpuHashMap: () => new LruPerCpuHashMap({ ...numbers, maxEntries: 64 }),
    PerCpuArrayMap: () => new PerCpuArrayMap({ ...values, length: 4 }),
  };
  for (const [name, make] of Object.entries(makers)) {
    bpfTest(
      `${name}: rejects another number of values than CPUs, and wrong values, and stores nothing`,
      () => {
        using map = make().set(1, each(5));
        const before = map.toMap();
        const expected = `expected an array of ${cpus.length}, a value for each possible CPU, got`;
        for (const wrong of [[], each(1).slice(1), [...each(1), 1]]) {
          const refusal = (which: string) =>
            new RangeError(`${which} of ${map}: ${expected} ${wrong.length}`);
          expect(() => map.set(1, wrong)).toThrow(refusal("value"));
          expect(() =>
            map.setMany([
              [0, each(7)],
              [1, wrong],
            ]),
          ).toThrow(refusal("value 1"));
        }
        for (const wrong of [5, undefined, new Uint32Array(cpus.length)]) {
          expect(() => map.set(1, wrong as never)).toThrow(TypeError);
          expect(() => map.set(1, wrong as never)).toThrow(`value of ${map}: ${expected}`);
        }
        const last = cpus.at(-1) as number;
        const negative = [...each(1).slice(1), -1];
        expect(() => map.set(1, negative)).toThrow(
          new RangeError(
            `value of ${map}: value of CPU ${last}: expected an integer from 0 to 4294967295 (u32), got -1`,
          ),
        );
        expect(map.toMap()).toEqual(before);
      },
    );

    bpfTest(`${name}: rejects an impossible CPU`, () => {
      using map = make().set(1, each(5));
      for (const cpu of [(cpus.at(-1) as number) + 1, -1, 0.5, "0"]) {
        const message = `cpu: expected one of the possible CPUs (${cpus.join(", ")}), got `;
        expect(() => map.getCpu(1, cpu as number)).toThrow(RangeError);
        expect(() => map.getCpu(1, cpu as number)).toThrow(message);
        expect(() => map.setCpu(1, cpu as number, 1)).toThrow(message);
      }
      expect(map.get(1)).toEqual(each(5));
    });

    bpfTest(`${name}: setCpu stores the value of one CPU, or reports the required kernel`, () => {
      using map = make().set(1, each(5));
      const [first] = cpus as readonly [number];
      try {
        expect(map.setCpu(1, first, 9).get(1)).toEqual([9, ...each(5).slice(1)]);
      } catch (error) {
        if (!(error instanceof BpfError)) throw error;
        expect(error.message).toMatch(/store the value of CPU \d+ in .*EINVAL.*needs Linux 7\.0/);
        expect(map.get(1)).toEqual(each(5));
      }
      // The CPU in the flags must not affect the next call.
      expect(map.set(1, each(6)).get(1)).toEqual(each(6));
    });
  }

  bpfTest("PerCpuArrayMap: rejects an index outside the array", () => {
    using map = new PerCpuArrayMap({ ...values, length: 4 });
    const message = 'index of percpu_array map "counts": expected an integer from 0 to 3, got 4';
    expect(() => map.set(4, each(1))).toThrow(new RangeError(message));
    expect(() => map.setCpu(4, cpus[0] as number, 1)).toThrow(new RangeError(message));
    expect([map.get(4), map.sum(4), map.getCpu(4, cpus[0] as number)]).toEqual(
      Array(3).fill(undefined),
    );
    expect([...map.values()]).toEqual(Array(4).fill(each(0)));
  });

  bpfTest("sum() rejects values that are not numbers", () => {
    const value = t.struct({ packets: t.u32 });
    using hash = new PerCpuHashMap({ key: t.u32, value, maxEntries: 4, name: "structs" });
    using array = new PerCpuArrayMap({ value: t.bool, length: 4, name: "flags" });
    hash.set(
      1,
      cpus.map((packets) => ({ packets })),
    );
    expect(() => hash.sum(1)).toThrow(
      new TypeError(
        'sum of percpu_hash map "structs": expected numbers or bigints as values, got an object: use reduce()',
      ),
    );
    expect(() => array.sum(0)).toThrow(
      /expected numbers or bigints as values, got false: use reduce\(\)$/,
    );
    expect(hash.sum(2)).toBeUndefined();
    expect(hash.reduce(1, (sum, { packets }) => sum + packets, 0)).toBe(
      cpus.reduce((a, b) => a + b),
    );
  });
});
