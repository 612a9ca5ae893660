import { expect, test } from "bun:test";
import { DisposedError, t } from "../../src/index.ts";
import { ReservedRecord, UserRingWriter } from "../../src/ring/user_ring_writer.ts";
import { FakeUserRing } from "./fake_user_ring.ts";

const pair = t.struct({ first: t.u32, second: t.u32 });

interface Setup {
  readonly memory: FakeUserRing;
  readonly writer: UserRingWriter;
  reserve(length: number): ReservedRecord<{ first: number; second: number }> | undefined;
}

function setUp(size = 4096, position = 0n, id = 1): Setup {
  const memory = new FakeUserRing(size, position);
  const writer = new UserRingWriter(memory, size, id, "fake ring");
  return {
    memory,
    writer,
    reserve(length) {
      const at = writer.reserve(length);
      return at < 0 ? undefined : new ReservedRecord(writer, pair, at, length);
    },
  };
}

function words(records: readonly Uint8Array[]): number[][] {
  return records.map((bytes) => [...new Uint32Array(bytes.slice().buffer)]);
}

test("records are drained unchanged, in the order of their reservation", () => {
  const { memory, writer, reserve } = setUp();
  expect(writer.output(pair, { first: 1, second: 2 })).toBe(true);
  const reserved = reserve(4);
  expect(writer.copy(Uint8Array.of(9, 0, 0, 0))).toBe(true);
  expect(words(memory.drain())).toEqual([[1, 2]]);
  expect(memory.peek()).toBe("busy");
  memory.data.setUint32(16 + 8, 7, true);
  reserved?.submit();
  expect(words(memory.drain())).toEqual([[7], [9]]);
  expect(writer.totals).toEqual({ events: 3, bytes: 48, discarded: 0, refused: 0 });
});

test("a discarded record is skipped", () => {
  const { memory, writer, reserve } = setUp();
  const first = reserve(8);
  const second = reserve(100);
  writer.output(pair, { first: 3, second: 4 });
  second?.discard();
  expect(memory.peek()).toBe("busy");
  first?.discard();
  expect(words(memory.drain())).toEqual([[3, 4]]);
  expect(writer.totals).toMatchObject({ events: 1, discarded: 2, bytes: 16 + 112 + 16 });
});

test("the ring can be filled to the last byte", () => {
  const { memory, writer, reserve } = setUp();
  expect(writer.maxLength).toBe(4088);
  expect(writer.copy(new Uint8Array(4088).fill(5))).toBe(true);
  expect(writer.backlog).toBe(4096);
  expect(writer.hasRoomFor(0)).toBe(false);
  expect(reserve(0)).toBeUndefined();
  expect(memory.drain()).toEqual([new Uint8Array(4088).fill(5)]);
  expect(reserve(0)).toBeDefined();
  expect(writer.backlog).toBe(8);
  expect([writer.hasRoomFor(4080), writer.hasRoomFor(4081)]).toEqual([true, false]);
});

test("a record that is longer than the kernel accepts is rejected", () => {
  const { writer } = setUp(2 ** 26);
  expect(writer.maxLength).toBe(2 ** 24 - 1);
  for (const length of [2 ** 24, -1, 1.5, Number.NaN, "4", null]) {
    expect(() => writer.checkLength(length as number)).toThrow(
      "length: expected an integer from 0 to 16777215",
    );
  }
  expect(() => setUp().writer.checkType(t.bytes(4089))).toThrow(
    new RangeError(
      "event: bytes(4089) needs 4089 bytes, but a record of the fake ring has at most 4088",
    ),
  );
});

test("a value that the type rejects leaves no record in the ring", () => {
  const { memory, writer } = setUp();
  const refused = { first: 1, second: -1 };
  expect(() => writer.output(pair, refused)).toThrow(RangeError);
  expect([writer.backlog, writer.totals.bytes]).toEqual([0, 0]);
  writer.output(pair, { first: 5, second: 6 });
  expect(words(memory.drain())).toEqual([[5, 6]]);
});

test("a record stays open if the type rejects the value of set(), and can be set again", () => {
  const { memory, reserve } = setUp();
  const record = reserve(8);
  expect(() => record?.set({ first: 1, second: -1 })).toThrow(RangeError);
  expect(record?.isOpen).toBe(true);
  record?.set({ first: 1, second: 2 }).submit();
  expect(words(memory.drain())).toEqual([[1, 2]]);
  const short = reserve(7);
  expect(() => short?.set({ first: 1, second: 2 })).toThrow(
    "a record of 7 bytes is too short for its event type struct { first: u32, second: u32 }, which needs 8: reserve a longer one",
  );
});

test("an event cannot write to the ring that it is being encoded for", () => {
  const { memory, writer, reserve } = setUp();
  const sameRing = new UserRingWriter(memory, memory.size, 1, "fake ring");
  const other = setUp(4096, 0n, 2);
  const refusals: unknown[] = [];
  const attempt = (write: () => unknown): void => {
    try {
      write();
    } catch (error) {
      refusals.push(`${error}`);
    }
  };
  const event = {
    first: 1,
    get second(): number {
      attempt(() => writer.output(pair, { first: 8, second: 8 }));
      attempt(() => writer.copy(new Uint8Array(8)));
      attempt(() => reserve(8));
      attempt(() => sameRing.output(pair, { first: 8, second: 8 }));
      // The same holds for an event of another ring that is encoded meanwhile.
      other.writer.output(pair, {
        first: 3,
        get second(): number {
          attempt(() => writer.output(pair, { first: 8, second: 8 }));
          return 4;
        },
      });
      expect(writer.hasRoomFor(8)).toBe(false);
      return 2;
    },
  };
  expect(writer.output(pair, event)).toBe(true);
  expect(refusals).toEqual(
    Array(5).fill(
      "Error: no record can be written to fake ring while an event is being encoded for it: write it before or after that event",
    ),
  );
  expect(words(memory.drain())).toEqual([[1, 2]]);
  expect(words(other.memory.drain())).toEqual([[3, 4]]);
  // The ring is usable again, even if the encoding has failed.
  expect(() => writer.output(pair, { first: 1, second: -1 })).toThrow(RangeError);
  expect(writer.output(pair, { first: 5, second: 6 })).toBe(true);
});

test("a record cannot be used by the event that is being encoded into it", () => {
  const { memory, reserve, writer } = setUp();
  const record = reserve(8);
  record?.set({
    first: 1,
    get second(): number {
      expect(() => record.submit()).toThrow("while an event is being encoded into it");
      expect(() => record.discard()).toThrow("while an event is being encoded into it");
      expect(() => record.view).toThrow("while an event is being encoded into it");
      // The record is reserved already, so others can be reserved after it.
      expect(writer.output(pair, { first: 3, second: 4 })).toBe(true);
      return 2;
    },
  });
  record?.submit();
  expect(words(memory.drain())).toEqual([
    [1, 2],
    [3, 4],
  ]);
});

test("disposal while an event is being encoded throws DisposedError", () => {
  for (const isReserved of [false, true]) {
    const { memory, reserve, writer } = setUp();
    const event = {
      first: 1,
      get second(): number {
        writer[Symbol.dispose]();
        return 2;
      },
    };
    const write = isReserved ? () => reserve(8)?.set(event) : () => void writer.output(pair, event);
    expect(write).toThrow(DisposedError);
    expect(memory.disposed).toBe(true);
    expect(memory.drain()).toEqual([]);
    expect(memory.peek()).toBe("empty");
  }
});

test("every method of a settled record except disposal throws", () => {
  const { reserve, writer } = setUp();
  for (const [settle, state] of [
    ["submit", "submitted"],
    ["discard", "discarded"],
  ] as const) {
    const record = reserve(8) as ReservedRecord<{ first: number; second: number }>;
    const { view, bytes } = record;
    record[settle]();
    for (const use of [
      () => record.view,
      () => record.bytes,
      () => record.set({ first: 1, second: 2 }),
      () => record.submit(),
      () => record.discard(),
    ]) {
      expect(use).toThrow(`the record was ${state} already and cannot be used any more`);
    }
    record[Symbol.dispose]();
    expect(record.isOpen).toBe(false);
    // Views that were kept are detached.
    expect(() => view.setUint8(0, 1)).toThrow(TypeError);
    expect(bytes.length).toBe(0);
  }
  expect(writer.totals).toMatchObject({ events: 1, discarded: 1 });
});

test("a record that was not submitted is discarded at the end of its block", () => {
  const { memory, reserve } = setUp();
  const failing = () => {
    using record = reserve(8);
    record?.set({ first: 1, second: "2" as never });
  };
  expect(failing).toThrow(TypeError);
  expect(memory.drain()).toEqual([]);
  expect(memory.peek()).toBe("empty");
});

test("disposal discards open records, and their methods throw DisposedError", () => {
  const { memory, writer, reserve } = setUp();
  const records = Array.from({ length: 5 }, () => reserve(8));
  records[3]?.submit();
  records[1]?.discard();
  const kept = records[2]?.bytes;
  writer[Symbol.dispose]();
  writer[Symbol.dispose]();
  expect(writer.totals).toMatchObject({ events: 1, discarded: 4 });
  expect(memory.drain()).toHaveLength(1);
  expect(memory.peek()).toBe("empty");
  expect(kept?.length).toBe(0);
  for (const record of records) {
    expect(() => record?.submit()).toThrow(DisposedError);
    expect(() => record?.bytes).toThrow(DisposedError);
    record?.[Symbol.dispose]();
  }
});

test("a writer continues if its memory cannot be unmapped", () => {
  const { memory, writer } = setUp();
  writer.output(pair, { first: 1, second: 2 });
  memory.isPinned = true;
  expect(() => writer[Symbol.dispose]()).toThrow("the memory is in use");
  expect(writer.disposed).toBe(false);
  expect(writer.output(pair, { first: 3, second: 4 })).toBe(true);
  memory.isPinned = false;
  writer[Symbol.dispose]();
  expect(memory.drain()).toHaveLength(2);
});

test("two writers of one ring take turns", () => {
  const { memory, writer } = setUp();
  const other = new UserRingWriter(memory, memory.size, 1, "fake ring");
  const found: number[] = [];
  for (let value = 0; value < 2000; value++) {
    expect((value % 3 === 0 ? other : writer).output(t.u32, value)).toBe(true);
    if (value % 50 === 0) found.push(...words(memory.drain()).flat());
  }
  found.push(...words(memory.drain()).flat());
  expect(found).toEqual(Array.from({ length: 2000 }, (_, value) => value));
});

test("a writer on another thread is an error when it is detected", () => {
  for (const position of [0n, 2n ** 32n - 16n]) {
    const { memory, writer } = setUp(4096, position);
    const racing = {
      first: 1,
      get second(): number {
        memory.producer[0] = memory.producerPosition + 32n;
        return 2;
      },
    };
    expect(() => writer.output(pair, racing)).toThrow("one writer at a time");
    expect(memory.producerPosition).toBe(position + 32n);
    expect(writer.totals.bytes).toBe(0);
    expect(writer.output(pair, { first: 1, second: 2 })).toBe(true);
    expect(memory.producerPosition).toBe(position + 48n);
  }
});

test("impossible positions are an error before a record is written", () => {
  for (const [consumer, producer] of [
    [16n, 0n],
    [0n, 4096n + 8n],
    [4n, 16n],
    [0n, 12n],
    [2n ** 32n, 16n],
    [0n, 2n ** 32n + 16n],
    [2n ** 63n, 2n ** 63n + 16n],
    [2n ** 64n - 8n, 0n],
  ] as const) {
    const { memory, writer, reserve } = setUp();
    memory.consumer[0] = consumer;
    memory.producer[0] = producer;
    const before = memory.everything.slice();
    const message = /^fake ring is corrupt: programs have drained up to position \d+(e\+\d+)? of/;
    for (const use of [
      () => writer.output(pair, { first: 1, second: 2 }),
      () => writer.copy(new Uint8Array(8)),
      () => reserve(8),
      () => writer.hasRoomFor(8),
      () => writer.backlog,
    ]) {
      expect(use).toThrow(message);
    }
    expect(memory.everything).toEqual(before);
    // With valid positions, the writer continues.
    memory.consumer[0] = memory.producer[0] = 64n;
    expect(writer.output(pair, { first: 1, second: 2 })).toBe(true);
    expect(words(memory.drain())).toEqual([[1, 2]]);
  }
});

test("positions beyond 2^31, 2^32 and 2^33 work", () => {
  for (const border of [2n ** 31n, 2n ** 32n, 2n ** 33n]) {
    for (const before of [8n, 16n, 24n, 4096n]) {
      const { memory, writer } = setUp(4096, border - before);
      for (let value = 0; value < 1000; value++) {
        expect(writer.output(pair, { first: value, second: 1 })).toBe(true);
        expect(words(memory.drain())).toEqual([[value, 1]]);
      }
      expect(memory.producerPosition).toBe(border - before + 16_000n);
    }
  }
});
