// Impossible contents of the memory of a perf buffer.
import { describe, expect, test } from "bun:test";
import { anySeed, randomNumbers } from "../support/random_numbers.ts";
import { FakePerf, numbersOf, readerOf } from "./fake_perf.ts";
import { repetitions } from "../support/effort.ts";

const everything = Number.MAX_SAFE_INTEGER;

describe("impossible contents", () => {
  const corrupt = "the buffer of CPU 0 of fake map is corrupt: ";

  test("of positions are an error before a record is read", () => {
    for (const [released, written] of [
      [16, 0],
      [0, 4096 + 8],
      [0, 12],
    ] as const) {
      const memory = new FakePerf(4096, released);
      memory.written = written;
      using reader = readerOf([memory]);
      const message = `${corrupt}records were read up to position ${released}, and the kernel has written up to ${written}, in a buffer of 4096 bytes`;
      expect(() => numbersOf(reader)).toThrow(message);
      expect(() => reader.hold(1, 4096)).toThrow(message);
      expect(reader.isCorrupt).toBe(true);
    }
  });

  test("of a record are an error in each drain, after the records before it were delivered", () => {
    for (const [body, size, type] of [
      [16, 0, 9],
      [16, 4, 9],
      [16, 20, 9],
      [16, 32, 9],
      [16, 0xfff8, 3],
      // A sample without room for the length of its data, and one whose data is longer than the sample.
      [0, 8, 9],
      [24, 32, 9],
    ] as const) {
      const memory = new FakePerf();
      using reader = readerOf([memory]);
      memory.putNumber(1);
      memory.record(type, new Uint8Array(body).fill(255), size);
      const message = `${corrupt}the record of type ${type} at position 16 has an impossible size of ${size} bytes; the kernel has written up to ${memory.written}; did this process`;
      const numbers: number[] = [];
      const drain = () =>
        reader.drain((view, offset) => void numbers.push(view.getUint32(offset, true)), everything);
      expect(drain).toThrow(message);
      expect(drain).toThrow(message);
      expect([numbers, memory.released, reader.isCorrupt]).toEqual([[1], 16, true]);
      const walk = () => {
        reader.hold(10, 4096);
        for (let at = reader.locate(0); at !== -1; at = reader.locate(at));
      };
      expect(walk).toThrow(message);
    }
  });

  test("of any kind neither make a drain endless nor make it read outside the memory", () => {
    const seed = anySeed();
    const random = randomNumbers(seed);
    for (let round = 0; round < repetitions(3000); round++) {
      const memory = new FakePerf(1024);
      for (let at = 0; at < memory.size; at += 8) {
        // Mostly valid headers, so that a drain gets beyond the first one.
        memory.data.setUint32(at, random(4) === 0 ? random(12) : 9, true);
        memory.data.setUint16(at + 4, random(0x10000), true);
        memory.data.setUint16(at + 6, random(8) === 0 ? random(0x10000) : 8 * random(8), true);
        if (random(2) === 0) memory.data.setUint32(at, 4 * random(12), true);
      }
      memory.released = random(5) === 0 ? random(2 ** 31) : random(512) * 8;
      memory.written = memory.released + (random(5) === 0 ? random(2 ** 31) : random(136) * 8);
      using reader = readerOf([memory]);
      let count = 0;
      const check = (view: DataView, offset: number, length: number) => {
        count++;
        if (offset + length > view.byteLength) throw new Error("outside");
      };
      const attempt = (read: () => void) => {
        count = 0;
        try {
          read();
        } catch (error) {
          if (!`${error}`.includes("is corrupt")) throw new Error(`seed ${seed}`, { cause: error });
        }
        if (count > memory.size / 16) throw new Error(`${count} records, seed ${seed}`);
      };
      attempt(() => {
        reader.hold(everything, everything);
        for (let at = reader.locate(0); at !== -1; at = reader.locate(at)) {
          check(reader.view, reader.offset, reader.length);
        }
      });
      attempt(() => reader.drain(check, everything));
    }
  });
});
