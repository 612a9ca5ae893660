import { expect, test } from "bun:test";
import { ArrayMap, BpfError, RingBuf, t } from "../../src/index.ts";
import { RingReader, SnapshotRing } from "../../src/ring/reader.ts";
import { bpfObstacle, bpfTest } from "../support/privilege.ts";
import { anySeed, randomNumbers } from "../support/random_numbers.ts";
import { FakeOverwriteRing } from "./fake_overwrite_ring.ts";
import { flood } from "./flood.ts";
import { counter, counterState, countedEvent, Producer } from "./producer.ts";
import { repetitions } from "../support/effort.ts";
import { testUnless } from "../support/skipping.ts";

const everything = Number.MAX_SAFE_INTEGER;

function open(size = 4096): { memory: FakeOverwriteRing; reader: RingReader } {
  const memory = new FakeOverwriteRing(size);
  return { memory, reader: new RingReader(new SnapshotRing(memory, size), size, "fake ring") };
}

/** Returns the numbers of all records. Every byte of a record must be that of its number. */
function drained(reader: RingReader, limit = everything): number[] {
  const numbers: number[] = [];
  reader.drain((view, offset, length) => {
    const number = view.getUint8(offset);
    const isWhole = new Uint8Array(view.buffer, offset, length).every((byte) => byte === number);
    if (!isWhole) throw new Error(`record ${number} of ${length} bytes is not whole`);
    numbers.push(number);
  }, limit);
  return numbers;
}

test("a ring that is not overwritten delivers all records", () => {
  const { memory, reader } = open();
  for (let number = 0; number < 10; number++) memory.put(number, 16);
  expect(drained(reader, 3)).toEqual([0, 1, 2]);
  expect(drained(reader)).toEqual([3, 4, 5, 6, 7, 8, 9]);
  expect(drained(reader)).toEqual([]);
  expect(reader.totals).toMatchObject({ events: 10, overwrittenBytes: 0 });
  expect(memory.consumer).toBe(memory.producer);
});

test("the newest records are delivered, and overwritten bytes are counted", () => {
  const { memory, reader } = open();
  // 24 bytes per record: 170 fit.
  for (let number = 0; number < 250; number++) memory.put(number, 16);
  const numbers = drained(reader);
  expect(numbers).toEqual(Array.from({ length: 170 }, (_, index) => 80 + index));
  expect(reader.totals.overwrittenBytes).toBe(80 * 24);
});

test("records that are overwritten during the copy are not delivered, but later ones are", () => {
  const { memory, reader } = open();
  for (let number = 0; number < 170; number++) memory.put(number, 16);
  let looks = 0;
  memory.meanwhile = () => {
    // The second call is after the copy.
    if (++looks === 2) for (let number = 170; number < 180; number++) memory.put(number, 16);
  };
  expect(drained(reader)).toEqual(Array.from({ length: 160 }, (_, index) => 10 + index));
  expect(reader.totals.overwrittenBytes).toBe(10 * 24);
  expect(drained(reader)).toEqual(Array.from({ length: 10 }, (_, index) => 170 + index));
});

test("if all records are overwritten during the copy, none is delivered and all are counted", () => {
  const { memory, reader } = open();
  for (let number = 0; number < 100; number++) memory.put(number, 16);
  let looks = 0;
  memory.meanwhile = () => {
    if (++looks === 2) for (let number = 0; number < 600; number++) memory.put(number & 255, 16);
  };
  expect(drained(reader)).toEqual([]);
  expect(drained(reader)).toHaveLength(170);
  const { events, overwrittenBytes } = reader.totals;
  expect(events * 24 + overwrittenBytes).toBe(700 * 24);
});

test("copied records are delivered even if they were overwritten after the copy", () => {
  const { memory, reader } = open();
  for (let number = 0; number < 100; number++) memory.put(number, 16);
  expect(drained(reader, 10)).toHaveLength(10);
  for (let number = 100; number < 250; number++) memory.put(number, 16);
  expect(drained(reader)).toEqual(Array.from({ length: 90 }, (_, index) => 10 + index));
  expect(reader.totals.overwrittenBytes).toBe(0);
  // The 150 records after them are complete.
  expect(drained(reader)).toHaveLength(150);
});

test("a record that was being written when it was copied is copied again", () => {
  const { memory, reader } = open();
  memory.put(1, 16);
  const held = memory.reserve(4);
  memory.put(3, 16);
  expect(drained(reader)).toEqual([1]);
  expect(reader.end).toBe("busy");
  memory.set(held + 8, 0x02020202);
  memory.commit(held, 4);
  expect(drained(reader)).toEqual([2, 3]);
});

test("each record is complete, in order, and delivered or counted, for random actions of programs and reader", () => {
  const seed = anySeed();
  const random = randomNumbers(seed);
  const { memory, reader } = open();
  const lengths: number[] = [];
  /** Bytes of a record with its header. */
  const sizeOf = (length: number) => Math.ceil((length + 8) / 8) * 8;
  const put = () => {
    const length = 4 + random(197);
    const number = lengths.length;
    const position = memory.producer;
    memory.put(number & 255, length);
    // The low byte is not enough: more than 255 records can be overwritten between two that are delivered.
    memory.set(position + 8, number);
    lengths.push(sizeOf(length));
  };
  memory.meanwhile = () => {
    if (random(3) === 0) for (let count = random(40); count > 0; count--) put();
  };
  let delivered = 0;
  let last = -1;
  const drain = (limit: number) =>
    reader.drain((view, offset, length) => {
      const number = view.getUint32(offset, true);
      const rest = new Uint8Array(view.buffer, offset + 4, length - 4);
      const isWhole = rest.every((byte) => byte === (number & 255));
      const size = sizeOf(length);
      expect({ seed, isWhole, size }).toEqual({ seed, isWhole: true, size: lengths[number] ?? 0 });
      expect({ seed, isLater: number > last }).toEqual({ seed, isLater: true });
      last = number;
      delivered++;
    }, limit);
  for (let round = 0; round < repetitions(3000); round++) {
    for (let count = random(30); count > 0; count--) put();
    drain(1 + random(60));
  }
  memory.meanwhile = undefined;
  while (drain(everything) > 0);
  const { events, bytes, overwrittenBytes } = reader.totals;
  const written = lengths.reduce((sum, length) => sum + length, 0);
  expect({ seed, accounted: bytes + overwrittenBytes }).toEqual({ seed, accounted: written });
  expect({ seed, events }).toEqual({ seed, events: delivered });
  expect(overwrittenBytes).toBeGreaterThan(0);
});

test("no content of the memory makes a drain endless or crashes it", () => {
  const seed = anySeed();
  const random = randomNumbers(seed);
  for (let round = 0; round < repetitions(1000); round++) {
    const { memory, reader } = open();
    for (let at = 0; at < memory.size; at += 4) {
      memory.set(at, random(4) === 0 ? random(2 ** 32) : random(256));
    }
    memory.consumer = random(3) === 0 ? random(2 ** 32) : random(5000) * 8;
    memory.overwrite = memory.consumer + random(600) * 8 - 800;
    memory.producer = memory.consumer + (random(5) === 0 ? random(2 ** 32) : random(520) * 8);
    for (let drain = 0; drain < 3; drain++) {
      try {
        reader.drain((view, offset, length) => {
          if (offset + length > view.byteLength) throw new Error("outside");
        }, everything);
      } catch (error) {
        if (!`${error}`.includes("is corrupt")) throw new Error(`seed ${seed}`, { cause: error });
      }
    }
  }
});

/** The reason for which this kernel has no ring in overwrite mode, if any. */
function findObstacle(): string | undefined {
  if (bpfObstacle !== undefined) return bpfObstacle;
  try {
    using _ring = new RingBuf({ size: 4096, event: t.u32, flags: ["rb_overwrite"] });
    return undefined;
  } catch (error) {
    if (!(error instanceof BpfError)) throw error;
    return error.message;
  }
}

const obstacleHere = findObstacle();

bpfTest(
  "a ring of the kernel in overwrite mode keeps the newest records, or its constructor throws the reason",
  () => {
    if (obstacleHere !== undefined) {
      expect(obstacleHere).toContain("the flag rb_overwrite needs Linux 6.19");
      return;
    }
    using ring = new RingBuf({ size: 4096, event: t.u32, flags: ["rb_overwrite"] });
    using producer = new Producer(ring);
    for (let number = 0; number < 1000; number++) expect(producer.putNumber(number)).toBe(true);
    const events: number[] = [];
    ring.drain((event) => void events.push(event));
    // 16 bytes per record, and the ring is never completely full.
    expect(events).toEqual(Array.from({ length: 255 }, (_, index) => 745 + index));
    expect(ring.stats).toMatchObject({ events: 255, overwrittenBytes: 745 * 16, lost: 0 });
    producer.putNumber(5);
    expect(ring.drain((event) => expect(event).toBe(5))).toBe(1);
  },
);

testUnless(obstacleHere)(
  "under flood, a ring of the kernel in overwrite mode delivers in order or counts",
  async () => {
    using ring = new RingBuf({ size: 65536, event: countedEvent, flags: ["rb_overwrite"] });
    using state = new ArrayMap({ value: counterState, length: 1 });
    using program = counter(ring, state);
    let last = -1;
    let events = 0;
    using subscription = ring.subscribe(
      ({ sequence }) => {
        if (sequence <= last) throw new Error(`${sequence} after ${last}`);
        last = sequence;
        events++;
      },
      { inPlace: true },
    );
    {
      await using _ = await flood(program.fd);
      await Bun.sleep(500);
    }
    const written = state.get(0)?.next ?? 0;
    for (let left = 1000; left > 0 && last !== written - 1; left--) await Bun.sleep(5);
    // 16 bytes per record.
    expect(events + subscription.stats.overwrittenBytes / 16).toBe(written);
    expect(events).toBeGreaterThan(100);
    expect(state.get(0)?.lost).toBe(0);
  },
);
