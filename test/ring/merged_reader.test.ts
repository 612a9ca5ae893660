// The reader of the perf buffers of several CPUs, over ordinary memory.
import { expect, test } from "bun:test";
import { FakePerf, numbersOf, readerOf } from "./fake_perf.ts";

const everything = Number.MAX_SAFE_INTEGER;

test("every CPU gets its turn, even if another one is busy", () => {
  const busy = new FakePerf(65536);
  const memories = [busy, new FakePerf(65536), new FakePerf(65536)];
  using reader = readerOf(memories);
  for (let value = 0; value < 4000; value++) busy.putNumber(value);
  for (const value of [10_000, 10_001]) memories[1]?.putNumber(value);
  memories[2]?.putNumber(20_000);
  const numbers = numbersOf(reader);
  expect(numbers.length).toBe(4003);
  // Each of them follows a turn of the busy one.
  expect(numbers.indexOf(10_001)).toBeLessThan(300);
  expect(numbers.indexOf(20_000)).toBeLessThan(600);
  // Records of each CPU are in order.
  const order = (from: number, to: number) =>
    numbers.filter((value) => value >= from && value < to);
  expect(order(0, 10_000)).toEqual(Array.from({ length: 4000 }, (_, value) => value));
  expect(order(10_000, 20_000)).toEqual([10_000, 10_001]);
});

test("turns continue from one drain to the next, with any limit", () => {
  const memories = [new FakePerf(), new FakePerf(), new FakePerf()];
  using reader = readerOf(memories);
  for (let value = 0; value < 10; value++) {
    for (const [cpu, memory] of memories.entries()) memory.putNumber(cpu * 100 + value);
  }
  const cpus: number[] = [];
  for (let drains = 0; drains < 30; drains++) {
    expect(reader.drain(() => void cpus.push(reader.cpu), 1)).toBe(1);
    expect(reader.end).toBe(drains === 29 ? "empty" : "limit");
  }
  expect(cpus).toEqual(Array.from({ length: 30 }, (_, index) => index % 3));
});

test("cpu is that of the record in its callback, and -1 before the first one", () => {
  const memories = [new FakePerf(8192), new FakePerf(8192)];
  using reader = readerOf(memories);
  expect(reader.cpu).toBe(-1);
  for (const [cpu, memory] of memories.entries()) {
    for (let value = 0; value < 300; value++) memory.putNumber(cpu);
  }
  reader.drain((view, offset) => expect(reader.cpu).toBe(view.getUint32(offset, true)), everything);
  expect(reader.totals.events).toBe(600);
});

test("a hold has records of one CPU, and holds take the CPUs in turn", () => {
  const memories = [new FakePerf(), new FakePerf(), new FakePerf()];
  using reader = readerOf(memories);
  for (const [cpu, memory] of memories.entries()) {
    for (let value = 0; value < 5; value++) if (cpu !== 1) memory.putNumber(cpu * 100 + value);
  }
  const seen: number[][] = [];
  for (;;) {
    const count = reader.hold(3, everything);
    if (count === 0) break;
    const held: number[] = [];
    for (let at = reader.locate(0); at !== -1; at = reader.locate(at)) {
      held.push(reader.view.getUint32(reader.offset, true));
    }
    expect(held.map((value) => Math.floor(value / 100))).toEqual(held.map(() => reader.cpu));
    seen.push(held);
    reader.markDelivered(reader.heldBytes, count);
    reader.releaseHeld();
  }
  expect(seen).toEqual([
    [0, 1, 2],
    [200, 201, 202],
    [3, 4],
    [203, 204],
  ]);
  expect([reader.end, reader.totals.events, reader.backlog]).toEqual(["empty", 10, 0]);
});

test("a reader without held records locates and releases nothing", () => {
  using reader = readerOf([new FakePerf()]);
  expect([reader.heldBytes, reader.locate(0), reader.offset, reader.length]).toEqual([0, -1, 0, 0]);
  expect(reader.view.byteLength).toBe(0);
  reader.releaseHeld();
  reader.markDelivered(0, 0);
  reader.interrupt();
  expect(reader.totals.events).toBe(0);
});

test("a corrupt buffer is an error before records of the others are delivered", () => {
  const memories = [new FakePerf(), new FakePerf()];
  using reader = readerOf(memories);
  memories[0]?.putNumber(1);
  (memories[1] as FakePerf).written = 4;
  expect(() => reader.drain(() => expect.unreachable(), everything)).toThrow(
    "of CPU 1 of fake map",
  );
  expect(reader.isCorrupt).toBe(true);
});

test("disposal in a callback ends the drain, and the memory is not accessed after that", () => {
  const memories = [new FakePerf(), new FakePerf()];
  let unmapped = 0;
  const reader = readerOf(memories, {
    [Symbol.dispose]() {
      unmapped++;
      // Like views of unmapped memory.
      for (const { data } of memories) data.buffer.transfer(0);
    },
  });
  for (const value of [1, 2, 3]) for (const memory of memories) memory.putNumber(value);
  expect(reader.drain(() => reader[Symbol.dispose](), everything)).toBe(1);
  reader[Symbol.dispose]();
  reader.releaseHeld();
  expect([unmapped, reader.totals.events]).toEqual([1, 1]);
  expect(memories.map(({ released }) => released)).toEqual([0, 0]);
});

test("disposal does not release held records that were not delivered", () => {
  const memory = new FakePerf();
  const reader = readerOf([memory], {
    [Symbol.dispose]: () => void memory.data.buffer.transfer(0),
  });
  memory.lost(1);
  memory.putNumber(1);
  memory.putNumber(2);
  reader.hold(2, everything);
  reader.markDelivered(reader.locate(0), 1);
  reader[Symbol.dispose]();
  reader.releaseHeld();
  expect(memory.released).toBe(0);
});

test("disposal detaches the copy of a record that wraps around the end", () => {
  const memory = new FakePerf(256, 256 - 8);
  const reader = readerOf([memory]);
  memory.putNumber(7);
  let kept: DataView | undefined;
  reader.drain((view, offset) => {
    kept = view;
    expect(view.getUint32(offset, true)).toBe(7);
  }, everything);
  expect(kept).not.toBe(memory.data);
  reader[Symbol.dispose]();
  expect(() => kept?.getUint8(0)).toThrow(TypeError);
});

test("a disposal that throws changes nothing", () => {
  const memory = new FakePerf();
  let isUsed = true;
  const reader = readerOf([memory], {
    [Symbol.dispose]() {
      if (isUsed) throw new Error("its memory is in use");
    },
  });
  memory.putNumber(1);
  expect(() => reader[Symbol.dispose]()).toThrow("in use");
  expect(numbersOf(reader)).toEqual([1]);
  memory.putNumber(2);
  const refused = () => expect(() => reader[Symbol.dispose]()).toThrow("in use");
  expect(reader.drain(refused, everything)).toBe(1);
  expect(memory.released).toBe(memory.written);
  isUsed = false;
  reader[Symbol.dispose]();
});
