import { describe, expect, test } from "bun:test";
import {
  allocateScratch,
  getUint64,
  type Scratch,
  setUint64,
} from "../../src/ffi/mapped_memory.ts";
import { withRandom } from "../types/random.ts";
import { repetitions } from "../support/effort.ts";

describe("scratch memory", () => {
  for (const length of [0, 1, 63, 64, 65, 4096, 65_536, 65_537, 1_000_000]) {
    test(`of ${length} bytes is zeroed each time it is handed out`, () => {
      for (let round = 0; round < 3; round++) {
        using scratch = allocateScratch(length);
        expect(scratch.length).toBeGreaterThanOrEqual(length);
        expect(scratch.bytes.byteLength).toBe(scratch.length);
        expect(scratch.view.byteLength).toBe(scratch.length);
        expect(scratch.bytes.every((byte) => byte === 0)).toBe(true);
        expect(scratch.address % 8).toBe(0);
        scratch.bytes.fill(0xff);
      }
    });
  }

  test("is used again once it is given back", () => {
    const first = allocateScratch(100);
    const { address } = first;
    first[Symbol.dispose]();
    using second = allocateScratch(128);
    expect(second.address).toBe(address);
  });

  test("given back twice is handed out once", () => {
    const scratch = allocateScratch(64);
    scratch[Symbol.dispose]();
    scratch[Symbol.dispose]();
    using first = allocateScratch(64);
    using second = allocateScratch(64);
    expect(second.address).not.toBe(first.address);
  });

  test("never overlaps, whatever is taken and given back", () => {
    withRandom((random) => {
      const held: { scratch: Scratch; mark: number }[] = [];
      for (let step = 0; step < repetitions(3000); step++) {
        if (held.length < 50 || random.below(2) === 0) {
          const scratch = allocateScratch(random.below(random.pick([100, 5000, 70_000])));
          const mark = 1 + random.below(255);
          scratch.bytes.fill(mark);
          held.push({ scratch, mark });
        } else {
          const [{ scratch, mark }] = held.splice(random.below(held.length), 1) as [
            (typeof held)[0],
          ];
          expect([scratch.bytes[0], scratch.bytes.at(-1)]).toEqual([mark, mark]);
          scratch[Symbol.dispose]();
        }
      }
      const spans = held.map(({ scratch }) => [scratch.address, scratch.address + scratch.length]);
      spans.sort(([a = 0], [b = 0]) => a - b);
      spans.reduce(
        ([, end = 0], span) => {
          expect(span[0]).toBeGreaterThanOrEqual(end);
          return span;
        },
        [0, 0],
      );
      for (const { scratch, mark } of held) {
        expect(scratch.bytes.every((byte) => byte === mark)).toBe(true);
        scratch[Symbol.dispose]();
      }
    });
  });
});

test("64 bits are written and read as numbers", () => {
  const view = new DataView(new ArrayBuffer(16));
  for (const value of [0, 1, 0xffffffff, 2 ** 32, 2 ** 32 + 1, 0x7f11_47e5_d048, 2 ** 53 - 1]) {
    setUint64(view, 4, value);
    expect(view.getBigUint64(4, true)).toBe(BigInt(value));
    expect(getUint64(view, 4)).toBe(value);
  }
});
