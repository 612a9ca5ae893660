import { expect } from "bun:test";
import { type Batch, DisposedError, t } from "../../src/index.ts";
import { bpfTest } from "../support/privilege.ts";
import type { Producer } from "./producer.ts";
import { producedRing } from "./rings.ts";

const Event = t.struct({ value: t.u32 });

const setup = () => producedRing(Event);

function put(producer: Producer, count: number, from = 0): void {
  for (let value = from; value < from + count; value++) producer.putNumber(value);
}

bpfTest("batches() yields arrays of at most `max` events and waits for more", async () => {
  using test = setup();
  const { ring, producer } = test;
  put(producer, 10);
  const batches: number[][] = [];
  for await (const batch of ring.batches({ max: 4 })) {
    batches.push(batch.map(({ value }) => value));
    if (batches.length === 3) setTimeout(() => put(producer, 3, 10), 5);
    if (batches.length === 4) break;
  }
  expect(batches).toEqual([
    [0, 1, 2, 3],
    [4, 5, 6, 7],
    [8, 9],
    [10, 11, 12],
  ]);
  put(producer, 1);
  expect(ring.drain(() => {})).toBe(1);
});

bpfTest("a batch in place can be iterated repeatedly until the next one is requested", async () => {
  using test = setup();
  const { ring, producer } = test;
  put(producer, 10);
  producer.discard();
  put(producer, 2, 10);
  const values: number[][] = [];
  const batches: Batch<{ value: number }>[] = [];
  const events = new Set<{ value: number }>();
  for await (const batch of ring.batches({ max: 8, inPlace: true })) {
    batches.push(batch);
    expect(batch.released).toBe(false);
    const seen: number[] = [];
    for (const event of batch) {
      events.add(event);
      seen.push(event.value);
    }
    expect(Array.from(batch, ({ value }) => value)).toEqual(seen);
    expect(batch.length).toBe(seen.length);
    values.push(seen);
    // The room is released only after the next request.
    expect(ring.backlog).toBeGreaterThanOrEqual(batch.length * 16);
    if (values.length === 2) break;
  }
  expect(values).toEqual([
    [0, 1, 2, 3, 4, 5, 6, 7],
    [8, 9, 10, 11],
  ]);
  expect(ring.backlog).toBe(0);
  expect(events.size).toBe(1);
  for (const batch of batches) {
    expect(batch.released).toBe(true);
    expect(() => [...batch]).toThrow("the batch was released");
  }
  expect(() => [...events][0]?.value).toThrow("this event was released");
  expect(ring.stats).toMatchObject({ events: 12, discarded: 1, batches: 2, largestBatch: 8 });
});

bpfTest("leaving the loop over a batch in place releases the whole batch", async () => {
  using test = setup();
  const { ring, producer } = test;
  put(producer, 10);
  for await (const batch of ring.batches({ max: 6, inPlace: true })) {
    for (const { value } of batch) if (value === 1) break;
    break;
  }
  const rest: number[] = [];
  ring.drain(({ value }) => void rest.push(value));
  expect(rest).toEqual([6, 7, 8, 9]);
});

bpfTest("disposal of the ring releases the batch in place that is being read", async () => {
  using test = setup();
  const { ring, producer } = test;
  put(producer, 4);
  let seen = 0;
  for await (const batch of ring.batches({ inPlace: true })) {
    expect(() => {
      for (const event of batch) {
        seen++;
        if (seen === 2) ring[Symbol.dispose]();
        if (seen === 2) expect(() => event.value).toThrow();
      }
    }).toThrow("the batch was released");
  }
  expect(seen).toBe(2);
  expect(() => ring.batches()).toThrow(DisposedError);
});

bpfTest(
  "a record that is too short rejects after the events before it were delivered, and ends the iteration",
  async () => {
    using test = setup();
    const { ring, producer } = test;
    put(producer, 3);
    producer.put(Uint8Array.of(1));
    put(producer, 2, 3);
    const values: number[] = [];
    const consume = async () => {
      for await (const batch of ring.batches()) values.push(...batch.map(({ value }) => value));
    };
    await expect(consume()).rejects.toThrow("has 1 bytes, but its event type");
    expect(values).toEqual([0, 1, 2]);
    ring.drain(({ value }) => void values.push(value));
    expect(values).toEqual([0, 1, 2, 3, 4]);
  },
);

bpfTest(
  "iterating a batch in place throws a RangeError at a record that is too short",
  async () => {
    using test = setup();
    const { ring, producer } = test;
    put(producer, 1);
    producer.put(Uint8Array.of(1));
    put(producer, 1, 2);
    const values: number[] = [];
    const consume = async () => {
      for await (const batch of ring.batches({ inPlace: true })) {
        for (const { value } of batch) values.push(value);
      }
    };
    await expect(consume()).rejects.toThrow(RangeError);
    expect(values).toEqual([0]);
    expect(ring.backlog).toBe(0);
  },
);

bpfTest("several waiting calls of next() get one batch each", async () => {
  using test = setup();
  const { ring, producer } = test;
  const batches = ring.batches({ max: 2 });
  const waiting = [batches.next(), batches.next(), batches.next()];
  put(producer, 5);
  const values = (await Promise.all(waiting)).map(({ value }) =>
    value?.map((event: { value: number }) => event.value),
  );
  expect(values).toEqual([[0, 1], [2, 3], [4]]);
  await batches.return?.();
});

bpfTest("batches() checks its options", () => {
  using test = setup();
  const { ring } = test;
  expect(() => ring.batches({ max: 0 })).toThrow("max: expected an integer from 1");
  // @ts-expect-error: misspelt on purpose
  expect(() => ring.batches({ maximum: 1 })).toThrow("unknown option");
  expect(ring.drain(() => {})).toBe(0);
});
