// The protocol of perf buffers, over ordinary memory.
import { describe, expect, test } from "bun:test";
import type { CpuReader, PerfReader } from "../../src/ring/perf_reader.ts";
import { anySeed, randomNumbers } from "../support/random_numbers.ts";
import { FakePerf, numbersOf, readerOf } from "./fake_perf.ts";

const everything = Number.MAX_SAFE_INTEGER;
/** A type of records that this library skips. */
const PERF_RECORD_COMM = 3;

/** Returns the numbers of at most `limit` held records, and marks each as delivered. */
function passedNumbers(reader: PerfReader, most = everything): number[] {
  const numbers: number[] = [];
  for (let at = reader.locate(0); at !== -1; at = reader.locate(at)) {
    numbers.push(reader.view.getUint32(reader.offset, true));
    reader.markDelivered(at, 1);
    if (numbers.length >= most) break;
  }
  return numbers;
}

describe("a drain", () => {
  test("delivers records in order, counts lost ones and skips unknown types", () => {
    const memory = new FakePerf();
    using reader = readerOf([memory]);
    memory.record(PERF_RECORD_COMM, new Uint8Array(32));
    memory.putNumber(1);
    memory.lost(5);
    memory.putNumber(2);
    memory.lost(2 ** 33);
    memory.record(PERF_RECORD_COMM, new Uint8Array(0));
    expect(reader.backlog).toBe(40 + 16 + 24 + 16 + 24 + 8);
    expect(numbersOf(reader)).toEqual([1, 2]);
    expect(reader.totals).toMatchObject({ events: 2, bytes: 128, lost: 2 ** 33 + 5, discarded: 0 });
    expect([reader.backlog, reader.end, memory.released]).toEqual([0, "empty", memory.written]);
  });

  test("sets the reason for its end", () => {
    const memory = new FakePerf();
    using reader = readerOf([memory]);
    expect([numbersOf(reader), reader.end]).toEqual([[], "empty"]);
    for (const value of [1, 2, 3]) memory.putNumber(value);
    memory.lost(1);
    expect([numbersOf(reader, 1), reader.end]).toEqual([[1], "limit"]);
    // No event follows, but the record of the loss is still unread.
    expect([numbersOf(reader, 2), reader.end]).toEqual([[2, 3], "limit"]);
    expect([numbersOf(reader, 1), reader.end, reader.totals.lost]).toEqual([[], "empty", 1]);
    memory.putNumber(4);
    expect([numbersOf(reader, 1), reader.end]).toEqual([[4], "empty"]);
  });

  test("delivers records of every length at every offset, and a copy of one that wraps around the end", () => {
    const size = 512;
    for (let length = 0; length < size - 24; length++) {
      const memory = new FakePerf(size);
      using reader = readerOf([memory]);
      for (let round = 0; round < 70; round++) {
        const payload = Uint8Array.from({ length }, (_, at) => (round * 7 + at * 13) & 0xff);
        const start = memory.written % size;
        memory.sample(payload);
        const recordSize = (memory.written + size - start) % size || size;
        let calls = 0;
        reader.drain((view, offset, padded) => {
          calls++;
          expect(padded).toBe(Math.ceil((length + 4) / 8) * 8 - 4);
          const got = new Uint8Array(view.buffer, view.byteOffset + offset, length);
          if (Buffer.compare(got, payload) !== 0) expect.unreachable(`${length} at ${start}`);
          expect(view === memory.data).toBe(start + recordSize <= size);
        }, everything);
        expect(calls).toBe(1);
      }
    }
  });

  test("reads a record of losses that wraps around the end", () => {
    const memory = new FakePerf(256);
    using reader = readerOf([memory]);
    for (let round = 1; round <= 100; round++) {
      memory.lost(round);
      memory.putNumber(round);
      expect(numbersOf(reader)).toEqual([round]);
      expect(reader.totals.lost).toBe((round * (round + 1)) / 2);
    }
  });

  test("follows positions beyond 32 bits", () => {
    const memory = new FakePerf(4096, 2 ** 40 + 4096 - 8);
    using reader = readerOf([memory]);
    for (let value = 0; value < 1000; value++) {
      memory.putNumber(value);
      expect(numbersOf(reader)).toEqual([value]);
    }
    expect(memory.released).toBe(2 ** 40 + 4096 - 8 + 1000 * 16);
  });

  test("leaves records that programs write during the call", () => {
    const memories = [new FakePerf(), new FakePerf()];
    using reader = readerOf(memories);
    memories[0]?.putNumber(0);
    const numbers: number[] = [];
    reader.drain((view, offset) => {
      numbers.push(view.getUint32(offset, true));
      // On the CPU whose turn it is, and on one whose turn follows.
      if (numbers.length < 100) for (const memory of memories) memory.putNumber(numbers.length);
    }, everything);
    expect(numbers).toEqual([0]);
    expect(numbersOf(reader)).toEqual([1, 1]);
  });

  test("releases room before it ends", () => {
    const memory = new FakePerf();
    using reader = readerOf([memory]);
    for (let value = 0; value < 4096 / 16; value++) memory.putNumber(value);
    const released = new Set<number>();
    reader.drain(() => void released.add(memory.released), everything);
    expect([...released]).toEqual([0, 1024, 2048, 3072]);
    expect(memory.released).toBe(4096);
  });

  test("keeps the records after one whose callback throws or ends the drain", () => {
    const memories = [new FakePerf(), new FakePerf()];
    using reader = readerOf(memories);
    for (const value of [1, 2, 3]) for (const memory of memories) memory.putNumber(value);
    const fail = () => {
      throw new Error("on purpose");
    };
    expect(() => reader.drain(fail, everything)).toThrow("on purpose");
    expect([reader.end, reader.totals.events, reader.backlog]).toEqual(["limit", 1, 5 * 16]);
    expect(reader.drain(() => reader.interrupt(), everything)).toBe(1);
    expect([reader.end, reader.totals.events, reader.backlog]).toEqual(["limit", 2, 4 * 16]);
    expect(numbersOf(reader).sort()).toEqual([2, 2, 3, 3]);
  });

  test("of a busy buffer uses a copy of the code, and reads the same records with it", () => {
    const memory = new FakePerf(65536);
    using reader = readerOf([memory]);
    const codes = new Set<unknown>();
    let next = 0;
    for (let round = 0; round < 100; round++) {
      for (let value = 0; value < 100; value++) memory.putNumber(round * 100 + value);
      memory.lost(1);
      codes.add(reader.code);
      reader.drain((view, offset, length) => {
        if (view.getUint32(offset, true) !== next++ || length !== 4) throw new Error("another one");
      }, everything);
    }
    expect([next, codes.size, reader.totals.lost]).toEqual([10_000, 2, 100]);
  });
});

test("a wake-up is due after wakeupEvents records, read or unread", () => {
  const seed = anySeed();
  const random = randomNumbers(seed);
  const memory = new FakePerf();
  using buffer = readerOf([memory]);
  const reader = buffer.readers[0] as CpuReader;
  const wakeupEvents = 10;
  let written = 0;
  let read = 0;
  const counts = { due: 0, notDue: 0 };
  for (let round = 0; round < 2000; round++) {
    if (random(5) === 0) memory.lost(1);
    for (let more = random(6); more > 0; more--)
      (memory.sample(new Uint8Array(random(20))), written++);
    const due = Math.floor(written / wakeupEvents) > Math.floor(read / wakeupEvents);
    expect({ seed, due: reader.isDue({ wakeupEvents }) }).toEqual({ seed, due });
    counts[due ? "due" : "notDue"]++;
    switch (random(4)) {
      case 0:
        read += buffer.drain(() => {}, 1 + random(5));
        break;
      case 1: {
        const held = buffer.hold(1 + random(5), 4096);
        buffer.markDelivered(buffer.heldBytes, held);
        buffer.releaseHeld();
        read += held;
        break;
      }
      case 2:
        if (written - read > 50) read += buffer.drain(() => {}, everything);
    }
  }
  expect(Math.min(counts.due, counts.notDue)).toBeGreaterThan(100);
});

test("a wake-up is due if the kernel has sent one after the last read position", () => {
  const memory = new FakePerf();
  using buffer = readerOf([memory]);
  const reader = buffer.readers[0] as CpuReader;
  const read = () => {
    reader.begin();
    reader.drain(() => {}, everything);
  };
  const due = () => [undefined, 32, 64].map((watermark) => reader.isDue({ watermark }));
  expect(due()).toEqual([false, false, false]);
  const seen: boolean[][] = [];
  for (let written = 16; written <= 96; written += 16) {
    memory.putNumber(0);
    seen.push(due());
  }
  // The kernel wakes beyond a multiple of the watermark, not at it.
  expect(seen.map((answers) => answers[1])).toEqual([false, false, true, true, true, true]);
  expect(seen.map((answers) => answers[2])).toEqual([false, false, false, false, true, true]);
  expect(seen.map((answers) => answers[0])).toEqual(seen.map(() => true));
  read();
  expect(due()).toEqual([false, false, false]);
  // 96 bytes were written before.
  memory.putNumber(0);
  expect(due()).toEqual([true, true, false]);
  read();
  memory.putNumber(0);
  expect(due()).toEqual([true, false, false]);
  memory.putNumber(0);
  expect(due()).toEqual([true, true, true]);
});

describe("held records", () => {
  test("are released up to the last delivered one", () => {
    const memory = new FakePerf();
    using reader = readerOf([memory]);
    for (let value = 0; value < 10; value++) memory.putNumber(value);
    expect(reader.hold(3, everything)).toBe(3);
    expect(passedNumbers(reader, 2)).toEqual([0, 1]);
    expect(memory.released).toBe(0);
    reader.releaseHeld();
    reader.releaseHeld();
    expect(memory.released).toBe(32);
    expect(reader.hold(100, 40)).toBe(2);
    expect(reader.heldBytes).toBe(32);
    reader.markDelivered(reader.heldBytes, 2);
    reader.releaseHeld();
    expect(numbersOf(reader)).toEqual([4, 5, 6, 7, 8, 9]);
    expect(reader.totals).toMatchObject({ events: 10, bytes: 160 });
  });

  test("are at least one, even if it is longer than the limit", () => {
    const memory = new FakePerf();
    using reader = readerOf([memory]);
    memory.sample(new Uint8Array(100));
    memory.putNumber(1);
    expect(reader.hold(10, 64)).toBe(1);
    expect([reader.locate(0), reader.length, reader.locate(112)]).toEqual([112, 100, -1]);
  });

  test("count losses between them once, whichever of them are delivered", () => {
    const memory = new FakePerf(256);
    using reader = readerOf([memory]);
    let lost = 0;
    let expected = 0;
    let next = 0;
    for (let round = 0; round < 200; round++) {
      for (let count = 0; count < 3; count++) {
        if ((round + count) % 2 === 0) memory.lost((lost += 1));
        memory.putNumber(next++);
      }
      while (reader.hold(2, 256) > 0) {
        const passed = passedNumbers(reader, 1 + (round % 2));
        expect(passed).toEqual(passed.map(() => expected++));
        reader.releaseHeld();
      }
    }
    expect(reader.totals).toMatchObject({ events: 600, lost: (lost * (lost + 1)) / 2 });
    expect([expected, reader.backlog]).toEqual([600, 0]);
  });

  test("are none if no record is an event, and the other records are released", () => {
    const memory = new FakePerf();
    using reader = readerOf([memory]);
    memory.lost(3);
    memory.record(PERF_RECORD_COMM, new Uint8Array(8));
    expect(reader.hold(10, 4096)).toBe(0);
    expect([memory.released, reader.totals.lost, reader.end]).toEqual([40, 3, "empty"]);
  });

  test("are read in place, and copied if they wrap around the end", () => {
    const size = 256;
    const memory = new FakePerf(size);
    using reader = readerOf([memory]);
    const views = new Set<DataView>();
    for (let round = 0; round < 100; round++) {
      const payload = Uint8Array.from({ length: round }, (_, at) => at ^ round);
      memory.sample(payload);
      expect(reader.hold(1, size)).toBe(1);
      const at = reader.locate(0);
      views.add(reader.view);
      const { buffer, byteOffset } = reader.view;
      const got = new Uint8Array(buffer, byteOffset + reader.offset, round);
      expect(Buffer.compare(got, payload)).toBe(0);
      reader.markDelivered(at, 1);
      reader.releaseHeld();
    }
    expect(views.size).toBe(2);
  });
});
