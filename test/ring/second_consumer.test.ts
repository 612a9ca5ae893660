import { expect, test } from "bun:test";
import { ArrayMap, asm, type LiveMap, Program, RingBuf, t } from "../../src/index.ts";
import { RecordSource } from "../../src/ring/consumer.ts";
import { eventItems } from "../../src/ring/iterators.ts";
import { RingReader } from "../../src/ring/reader.ts";
import { u32 } from "../../src/types/integer.ts";
import type { Order } from "./children/second_consumer.ts";
import { FakeRing } from "./fake_ring.ts";
import { FakeSource } from "./fake_source.ts";
import { flood } from "./flood.ts";
import { bpfTest } from "../support/privilege.ts";
import { repetitions } from "../support/effort.ts";
import { endWorker } from "../support/end_worker.ts";

const everything = Number.MAX_SAFE_INTEGER;
const { r0, r1, r2, r3, r4, r6, r7 } = asm;

/** Creates a ring with the records 0 to 9, of 16 bytes each, and a reader. */
function numbered(): { memory: FakeRing; reader: RingReader } {
  const memory = new FakeRing();
  for (let value = 0; value < 10; value++) memory.putNumber(value);
  return { memory, reader: new RingReader(memory, memory.size, "fake ring") };
}

/** Drains a reader. Calls `during` with each number before it is added to the result. */
function drained(reader: RingReader, during: (value: number) => void = () => {}): number[] {
  const events: number[] = [];
  reader.drain((view, offset) => {
    const value = view.getUint32(offset, true);
    during(value);
    events.push(value);
  }, everything);
  return events;
}

test("a consumer that was overtaken keeps the position and continues from there", () => {
  const { memory, reader } = numbered();
  const events = drained(reader, (value) => {
    if (value === 2) {
      memory.consumer = memory.producer;
      memory.putNumber(10);
    }
  });
  expect(events).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
  expect(memory.consumer).toBe(160);
  expect(drained(reader)).toEqual([10]);
  expect(memory.consumer).toBe(176);
});

test("a consumer that has read more than another one released does not read it twice", () => {
  const { memory, reader } = numbered();
  const events = drained(reader, (value) => {
    if (value === 5) memory.consumer = 48;
  });
  expect(events).toHaveLength(10);
  expect(memory.consumer).toBe(160);
  expect(drained(reader)).toEqual([]);
});

test("the position is always the start of a record, even if programs overwrite records while they are read", () => {
  const { memory, reader } = numbered();
  const events = drained(reader, (value) => {
    if (value !== 3) return;
    // Another consumer has released 0 to 6, and a program has written garbage that looks like a record which ends within 8.
    memory.consumer = 7 * 16;
    memory.setHeader(4 * 16, 4 * 16 + 8 - 8, 0);
  });
  expect(events.slice(0, 4)).toEqual([0, 1, 2, 3]);
  expect(memory.consumer % 16).toBe(0);
  expect(memory.consumer).toBeGreaterThanOrEqual(7 * 16);
  expect(drained(reader).at(-1)).toBe(9);
  expect(memory.consumer).toBe(160);
});

test("garbage in place of a header is not an error if another consumer has released the record", () => {
  const { memory, reader } = numbered();
  const events = drained(reader, (value) => {
    if (value !== 3) return;
    memory.consumer = 6 * 16;
    memory.setHeader(4 * 16, 100_000, 0);
  });
  expect(events).toEqual([0, 1, 2, 3]);
  expect(reader.end).toBe("limit");
  expect(reader.isCorrupt).toBe(false);
  expect(memory.consumer).toBe(6 * 16);
  expect(drained(reader)).toEqual([6, 7, 8, 9]);
});

test("garbage in place of a header is an error if no consumer has released the record", () => {
  const { memory, reader } = numbered();
  const drain = () =>
    drained(reader, (value) => {
      if (value === 3) memory.setHeader(4 * 16, 100_000, 0);
    });
  expect(drain).toThrow("the record at position 64 has a length of 100000 bytes");
  expect(reader.isCorrupt).toBe(true);
});

test("held records that another consumer releases are skipped without an error", () => {
  const { memory, reader } = numbered();
  expect(reader.hold(everything, memory.size)).toBe(10);
  let at = reader.locate(0);
  reader.markDelivered(at, 1);
  memory.consumer = 6 * 16;
  memory.setHeader(16, 100_000, 0);
  at = reader.locate(at);
  expect(at).toBe(-1);
  reader.markDelivered(reader.heldBytes, 0);
  reader.releaseHeld();
  expect(memory.consumer).toBe(6 * 16);
  expect(reader.hold(everything, memory.size)).toBe(4);
  reader.locate(0);
  expect(reader.view.getUint32(reader.offset, true)).toBe(6);
});

/** A reader that another consumer overtakes once, as soon as it holds records. */
class OvertakenReader extends RingReader {
  readonly #memory: FakeRing;
  #wasOvertaken = false;

  constructor(memory: FakeRing) {
    super(memory, memory.size, "fake ring");
    this.#memory = memory;
  }

  override hold(limit: number, bytes: number): number {
    const count = super.hold(limit, bytes);
    if (!this.#wasOvertaken) {
      this.#wasOvertaken = true;
      this.#memory.consumer = 6 * 16;
      this.#memory.setHeader(0, 100_000, 0);
    }
    return count;
  }
}

test("records that another consumer releases right after the hold are not delivered", () => {
  for (const way of ["iteration", "peek"] as const) {
    const { memory } = numbered();
    const source = new RecordSource(
      new FakeSource(memory, u32).map,
      u32,
      new OvertakenReader(memory),
    );
    const events: (number | undefined)[] = [];
    const items = eventItems(source);
    for (let round = 0; round < 2; round++) {
      if (way === "iteration") events.push(items.take() ? items.item : undefined);
      else source.peek((view, offset) => events.push(view.getUint32(offset, true)));
    }
    items.settle();
    expect([way, ...events]).toEqual(way === "iteration" ? [way, undefined, 6] : [way, 6]);
    expect(source.reader.totals.events).toBe(way === "iteration" ? 1 : 0);
  }
});

test("a position that another consumer moved back is moved forward again", () => {
  const { memory, reader } = numbered();
  expect(drained(reader)).toHaveLength(10);
  // Consumers of libbpf store the position that they have reached, even if it was moved meanwhile.
  memory.consumer = 32;
  memory.setHeader(32, 100_000, 0);
  memory.putNumber(10);
  expect(drained(reader)).toEqual([10]);
  expect(memory.consumer).toBe(176);
});

test("positions that another consumer moves between the two loads are read again", () => {
  const { memory, reader } = numbered();
  const moved = 2 * memory.size;
  let looks = 0;
  memory.look = () => {
    // The first attempt reads the consumer position, another consumer empties the ring, and then the producer position is read.
    if (looks++ === 0) memory.producer = moved + 16;
    else memory.consumer = moved;
  };
  memory.releasedPosition = () => moved;
  expect(drained(reader)).toEqual([0]);
  expect(reader.isCorrupt).toBe(false);
  expect(memory.consumer).toBe(moved + 16);
});

/** A ring whose consumer position is loaded and exchanged in halves: a load can combine halves of two positions. */
class RingInHalves extends FakeRing {
  position = 0;
  /** The number of bytes by which the next load is too low. */
  missing = 0;

  override look(): void {
    this.consumer = this.position - this.missing;
    this.missing = 0;
  }

  override releasedPosition(): number {
    return this.position;
  }

  override release(from: number, to: number): boolean {
    if ((from | 0) !== (this.position | 0)) return false;
    this.position += (to >>> 0) - (from >>> 0);
    return true;
  }

  override advanceTo(position: number): void {
    this.position = Math.max(this.position, position);
  }
}

test("a position that another consumer moves past 4 GiB during a load is not changed", () => {
  const memory = new RingInHalves();
  const border = 2 ** 32;
  memory.position = memory.producer = border - 32;
  const reader = new RingReader(memory, memory.size, "fake ring");
  memory.putNumber(0);
  expect(drained(reader)).toEqual([0]);
  memory.putNumber(1);
  memory.putNumber(2);
  memory.position = memory.producer;
  memory.putNumber(3);
  memory.missing = border;
  expect(drained(reader)).toEqual([3]);
  expect(memory.position).toBe(border + 32);
});

const producerState = t.struct({ sequence: t.u64Number, bytes: t.bytes(120) });

/** Returns a program that writes a record of 8 to 120 bytes that begins with its number. A number without room is used again. */
function sizedProducer(ring: LiveMap, state: LiveMap): Program {
  return new Program({
    section: "socket",
    license: "GPL",
    name: "sized",
    maps: { ring, state },
    code: [
      asm.ldMapValue(r6, "state", 0),
      asm.ldxdw(r7, r6, 0),
      asm.ldMap(r1, "ring"),
      asm.mov(r2, r6),
      asm.mov(r3, r7),
      asm.mul(r3, 40),
      asm.and(r3, 0x78),
      asm.add(r3, 8),
      asm.mov(r4, 0),
      asm.call("ringbuf_output"),
      asm.jne(r0, 0, "full"),
      asm.add(r7, 1),
      asm.stxdw(r6, 0, r7),
      asm.label("full"),
      asm.mov(r0, 0),
      asm.exit(),
    ],
  });
}

bpfTest(
  "two threads that consume one ring keep it intact, and neither fails",
  async () => {
    using ring = new RingBuf({ size: 4096, event: t.u64Number });
    using state = new ArrayMap({ value: producerState, length: 1 });
    using program = sizedProducer(ring, state);
    const seen = new Uint8Array(new SharedArrayBuffer(1 << 20));
    const stop = new Int32Array(new SharedArrayBuffer(4));
    const order: Order = { ringFd: ring.fd, seen, stop };
    const consumers = Array.from({ length: 2 }, () => {
      const worker = new Worker(`${import.meta.dir}/children/second_consumer.ts`, { ref: false });
      const ready = Promise.withResolvers<void>();
      const result = Promise.withResolvers<{ failure: string | undefined; events: number }>();
      worker.onmessage = ({ data }) => (data === "ready" ? ready.resolve() : result.resolve(data));
      worker.onerror = ({ message }) => {
        ready.reject(new Error(message));
        result.reject(new Error(message));
      };
      worker.postMessage(order);
      return { worker, ready: ready.promise, result: result.promise };
    });
    await Promise.all(consumers.map(({ ready }) => ready));
    {
      await using _ = await flood(program.fd);
      const count = repetitions(8000, 2000);
      while ((state.at(0)?.sequence ?? 0) < count) await Bun.sleep(5);
    }
    Atomics.store(stop, 0, 1);
    const results = await Promise.all(consumers.map(({ result }) => result));
    await Promise.all(consumers.map(({ worker }) => endWorker(worker)));
    expect(results.map(({ failure }) => failure)).toEqual([undefined, undefined]);
    const sequence = state.at(0)?.sequence ?? 0;
    ring.drainRaw((view, offset) => {
      const number = view.getUint32(offset, true);
      if (number < seen.length) Atomics.add(seen, number, 1);
    });
    const numbers = seen.subarray(0, sequence);
    expect(sequence).toBeGreaterThan(1000);
    // Records that both read are delivered twice. A missing one would need garbage that looks like a record: 0 of 65,000 were
    // missing.
    expect(numbers.filter((count) => count === 0).length).toBeLessThan(sequence / 100);
    expect(results.every(({ events }) => events > 0)).toBe(true);
    // The ring is intact: new records are delivered in order.
    for (let round = 0; round < 100; round++) {
      for (let run = 0; run < 10; run++) program.testRun({ data: new Uint8Array(14) });
      const events: number[] = [];
      ring.drain((number) => void events.push(number));
      expect(events).toEqual(Array.from({ length: 10 }, (_, at) => sequence + round * 10 + at));
    }
  },
  60_000,
);
