import { expect, test } from "bun:test";
import { PullIterator, eventItems } from "../../src/ring/iterators.ts";
import { RingReader } from "../../src/ring/reader.ts";
import { consumeSettings } from "../../src/ring/ring_options.ts";
import { u32 } from "../../src/types/integer.ts";
import { FakeRing } from "./fake_ring.ts";
import { FakeSource } from "./fake_source.ts";
import { repetitions } from "../support/effort.ts";

const everything = Number.MAX_SAFE_INTEGER;

function drained(reader: RingReader, limit = everything): number[] {
  const events: number[] = [];
  reader.drain((view, offset) => void events.push(view.getUint32(offset, true)), limit);
  return events;
}

test("a reserved record ends the drain and blocks the records after it", () => {
  const memory = new FakeRing();
  using reader = new RingReader(memory, memory.size, "fake ring");
  memory.putNumber(1);
  const busy = memory.reserve(4);
  memory.putNumber(3);
  expect(drained(reader)).toEqual([1]);
  expect(reader.end).toBe("busy");
  expect(memory.consumer).toBe(busy);
  memory.set(busy + 8, 2);
  memory.commit(busy, 4);
  expect(drained(reader)).toEqual([2, 3]);
  expect(reader.end).toBe("empty");
});

test("a drain sets the reason for its end", () => {
  const memory = new FakeRing();
  using reader = new RingReader(memory, memory.size, "fake ring");
  expect(drained(reader)).toEqual([]);
  expect(reader.end).toBe("empty");
  memory.putNumber(1);
  memory.putNumber(2);
  expect(drained(reader, 1)).toEqual([1]);
  expect(reader.end).toBe("limit");
  expect(drained(reader, 1)).toEqual([2]);
  expect(reader.end).toBe("empty");
});

test("positions beyond 32 bits and beyond the size work", () => {
  const memory = new FakeRing();
  memory.producer = memory.consumer = 2 ** 40 + 4096 - 8;
  using reader = new RingReader(memory, memory.size, "fake ring");
  for (let value = 0; value < 1000; value++) {
    memory.putNumber(value);
    expect(drained(reader)).toEqual([value]);
  }
  expect(memory.consumer).toBe(2 ** 40 + 4096 - 8 + 1000 * 16);
});

/** Returns an iterator over a fake ring. The test counts and sends the wake-ups. */
function iterate(memory: FakeRing) {
  const source = new FakeSource(memory, u32);
  const settings = consumeSettings("test", {}, []);
  const iterator = new PullIterator(source, "iteration", settings, eventItems(source));
  return { iterator, source };
}

test("a wait for a reserved record neither spins nor loses the record", async () => {
  const memory = new FakeRing();
  const { iterator, source } = iterate(memory);
  const busy = memory.reserve(4);
  const next = iterator.next();
  const started = performance.now();
  await Bun.sleep(100);
  // The kernel reports such a ring as readable at once, so an armed wait would spin.
  expect(source.armed).toBe(0);
  expect(memory.checks).toBeGreaterThan(1);
  expect(memory.checks).toBeLessThan(performance.now() - started + 20);
  memory.set(busy + 8, 5);
  memory.commit(busy, 4);
  expect(await next).toEqual({ done: false, value: 5 });
  const checks = memory.checks;
  const waiting = iterator.next();
  await Bun.sleep(20);
  expect(source.armed).toBe(1);
  // An empty ring is not checked before the kernel sends a wake-up.
  expect(memory.checks).toBe(checks + 1);
  await iterator.return();
  expect(await waiting).toEqual({ done: true, value: undefined });
});

test("a wait for a reserved record ends if the record is discarded", async () => {
  const memory = new FakeRing();
  const { iterator, source } = iterate(memory);
  const busy = memory.reserve(4);
  const next = iterator.next();
  await Bun.sleep(5);
  memory.commit(busy, 4, { discard: true });
  await Bun.sleep(20);
  expect(source.armed).toBe(1);
  memory.putNumber(8);
  source.wake();
  expect(await next).toEqual({ done: false, value: 8 });
});

test("the end of an iteration ends the checks for a reserved record", async () => {
  const memory = new FakeRing();
  const { iterator } = iterate(memory);
  memory.reserve(4);
  const next = iterator.next();
  await iterator.return();
  expect(await next).toEqual({ done: true, value: undefined });
  const { checks } = memory;
  await Bun.sleep(10);
  expect(memory.checks).toBe(checks);
});

test("a wake-up without an event starts another wait", async () => {
  const memory = new FakeRing();
  const { iterator, source } = iterate(memory);
  const next = iterator.next();
  source.wake();
  source.wake();
  expect(source.armed).toBe(3);
  memory.putNumber(1);
  source.wake();
  expect(await next).toEqual({ done: false, value: 1 });
});

test("a wait that cannot start rejects next() and ends the iteration", async () => {
  const memory = new FakeRing();
  const { iterator, source } = iterate(memory);
  source.failures.arm = new Error("wait failed on purpose");
  await expect(iterator.next()).rejects.toThrow("wait failed on purpose");
  expect(source.isFree).toBe(true);
  expect(await iterator.next()).toEqual({ done: true, value: undefined });
});

test("a record that is longer than the written bytes is an error in each drain", () => {
  const memory = new FakeRing();
  using reader = new RingReader(memory, memory.size, "fake ring");
  memory.putNumber(1);
  memory.putNumber(2);
  memory.setHeader(16, 1000, 0);
  const events: number[] = [];
  const drain = () =>
    reader.drain((view, offset) => void events.push(view.getUint32(offset, true)), everything);
  const message =
    "fake ring is corrupt: the record at position 16 has a length of 1000 bytes, but programs have written only up to 32; was its memory changed by another process?";
  expect(drain).toThrow(message);
  expect(drain).toThrow(message);
  expect(events).toEqual([1]);
  expect(memory.consumer).toBe(16);
});

test("impossible positions are an error before a record is read", () => {
  for (const [consumer, producer] of [
    [16, 0],
    [0, 4096 + 8],
    [4, 16],
  ] as const) {
    const memory = new FakeRing();
    using reader = new RingReader(memory, memory.size, "fake ring");
    Object.assign(memory, { consumer, producer });
    expect(() => drained(reader)).toThrow(
      `fake ring is corrupt: its consumer is at position ${consumer} and programs have written up to ${producer}, in a ring of 4096 bytes`,
    );
  }
});

test("no content of the memory makes a drain endless or makes it read outside the memory", () => {
  const seed = (Math.random() * 0x1_0000_0000) >>> 0;
  let state = seed;
  const random = () => {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    return state >>> 0;
  };
  for (let round = 0; round < repetitions(2000); round++) {
    const memory = new FakeRing();
    using reader = new RingReader(memory, memory.size, "fake ring");
    for (let at = 0; at < memory.size; at += 4) {
      // Mostly valid lengths, so that a drain gets beyond the first record.
      memory.set(at, random() % 4 === 0 ? random() : random() % 256);
    }
    memory.consumer = random() % 5 === 0 ? random() : (random() >>> 12) * 8;
    memory.producer = memory.consumer + (random() % 5 === 0 ? random() : (random() % 520) * 8);
    let count = 0;
    try {
      reader.drain((view, offset, length) => {
        count++;
        if (offset + length > view.byteLength) throw new Error("outside");
      }, everything);
    } catch (error) {
      if (!`${error}`.includes("is corrupt")) throw new Error(`seed ${seed}`, { cause: error });
    }
    if (count > memory.size / 8) throw new Error(`${count} records in one ring, seed ${seed}`);
  }
});

test("disposal unmaps the memory once and releases delivered records", () => {
  const memory = new FakeRing();
  const reader = new RingReader(memory, memory.size, "fake ring");
  memory.putNumber(1);
  reader.drain(() => reader[Symbol.dispose](), everything);
  expect([memory.disposed, memory.consumer]).toEqual([true, 16]);
  memory.disposed = false;
  reader[Symbol.dispose]();
  expect(memory.disposed).toBe(false);
});

test("the consumer position is never moved back, even if another process consumes the ring", () => {
  const memory = new FakeRing();
  using reader = new RingReader(memory, memory.size, "fake ring");
  for (const value of [1, 2, 3]) memory.putNumber(value);
  const events: number[] = [];
  reader.drain((view, offset) => {
    events.push(view.getUint32(offset, true));
    memory.consumer = memory.producer;
  }, 1);
  expect([events, memory.consumer]).toEqual([[1], memory.producer]);
});

test("a reserved record is checked with increasing delays until it is submitted", async () => {
  const memory = new FakeRing();
  const busy = memory.reserve(4);
  const { iterator } = iterate(memory);
  const next = iterator.next();
  await Bun.sleep(400);
  // After 1, 3, 7, 15, 31, 63, 113 ms, and then every 50 ms.
  expect(memory.checks).toBeLessThanOrEqual(15);
  expect(memory.checks).toBeGreaterThan(5);
  memory.set(busy + 8, 7);
  memory.commit(busy, 4);
  expect(await next).toEqual({ done: false, value: 7 });
  iterator.end();
});
