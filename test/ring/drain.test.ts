import { expect } from "bun:test";
import { type RingBuf, t } from "../../src/index.ts";
import { bpfTest } from "../support/privilege.ts";
import { reservedSize } from "./producer.ts";
import { producedRing } from "./rings.ts";

const numbers = () => producedRing(t.u32);

function drained(ring: RingBuf<t.Type<number>>, limit?: number): number[] {
  const events: number[] = [];
  ring.drain((event) => void events.push(event), limit === undefined ? {} : { limit });
  return events;
}

bpfTest("drain() of an empty ring returns 0 without a call", () => {
  using setup = numbers();
  expect(setup.ring.drain(() => expect.unreachable())).toBe(0);
  expect(setup.ring.backlog).toBe(0);
});

bpfTest("drain() decodes all events in order and returns their number", () => {
  using setup = numbers();
  const { ring, producer } = setup;
  for (const value of [3, 1, 2]) producer.putNumber(value);
  expect(ring.backlog).toBe(3 * 16);
  const events: number[] = [];
  expect(ring.drain((event) => void events.push(event))).toBe(3);
  expect(events).toEqual([3, 1, 2]);
  expect(ring.backlog).toBe(0);
});

bpfTest("a limit leaves the other events in the ring", () => {
  using setup = numbers();
  for (let value = 0; value < 5; value++) setup.producer.putNumber(value);
  expect(drained(setup.ring, 2)).toEqual([0, 1]);
  expect(drained(setup.ring, 2)).toEqual([2, 3]);
  expect(drained(setup.ring, 2)).toEqual([4]);
  expect(drained(setup.ring, 2)).toEqual([]);
});

bpfTest("discarded records are skipped and do not count towards the limit", () => {
  using setup = numbers();
  const { ring, producer } = setup;
  producer.discard();
  producer.putNumber(1);
  producer.discard();
  producer.discard();
  producer.putNumber(2);
  producer.discard();
  expect(drained(ring, 2)).toEqual([1, 2]);
  expect(drained(ring)).toEqual([]);
  expect(ring.backlog).toBe(0);
});

bpfTest("drainRaw() passes each record as an offset in one view of the ring's memory", () => {
  using setup = numbers();
  const { ring, producer } = setup;
  producer.putNumber(7);
  producer.put(new Uint8Array(0));
  producer.submit();
  const views = new Set<DataView>();
  const lengths: number[] = [];
  const firsts: number[] = [];
  const count = ring.drainRaw((view, offset, length) => {
    views.add(view);
    lengths.push(length);
    if (length > 0) firsts.push(view.getUint32(offset, true));
  });
  expect(count).toBe(3);
  expect(views.size).toBe(1);
  expect(lengths).toEqual([4, 0, reservedSize]);
  expect(firsts).toEqual([7, 0xffff_ffff]);
});

bpfTest("a record that is longer than the event type is decoded from its start", () => {
  using setup = numbers();
  setup.producer.put(Uint8Array.of(1, 0, 0, 0, 9, 9, 9));
  expect(drained(setup.ring)).toEqual([1]);
});

bpfTest(
  "drain() throws a RangeError at a record that is too short, and the following events stay",
  () => {
    using setup = numbers();
    const { ring, producer } = setup;
    producer.putNumber(1);
    producer.put(Uint8Array.of(1, 2, 3));
    producer.putNumber(2);
    const events: number[] = [];
    const drain = () => ring.drain((event) => void events.push(event));
    expect(drain).toThrow(
      new RangeError(
        `a record of ${ring} has 3 bytes, but its event type u32 needs 4: open the map with the type that programs write`,
      ),
    );
    expect(events).toEqual([1]);
    expect(drain()).toBe(1);
    expect(events).toEqual([1, 2]);
  },
);

bpfTest(
  "the event whose callback throws counts as delivered, and the following events stay",
  () => {
    using setup = numbers();
    const { ring, producer } = setup;
    for (const value of [1, 2, 3]) producer.putNumber(value);
    const failure = new Error("of the callback");
    expect(() =>
      ring.drain((event) => {
        if (event === 2) throw failure;
      }),
    ).toThrow(failure);
    expect(drained(ring)).toEqual([3]);
  },
);

bpfTest("another object for the same ring cannot be a second consumer", async () => {
  using setup = numbers();
  const { ring, producer } = setup;
  using other = ring.dup();
  for (const value of [1, 2, 3]) producer.putNumber(value);
  const events: number[] = [];
  const count = ring.drain((event) => {
    events.push(event);
    expect(() => other.drain(() => {})).toThrow("has a consumer already: end that drain first");
    expect(() => other[Symbol.asyncIterator]()).toThrow("end that drain first");
  });
  expect([count, events, ring.backlog]).toEqual([3, [1, 2, 3], 0]);
  const iterator = other[Symbol.asyncIterator]();
  expect(() => ring.drain(() => {})).toThrow("end that iteration first");
  expect(() => ring[Symbol.asyncIterator]()).toThrow("end that iteration first");
  // After a drain that throws, and after an iteration, other consumers are allowed.
  await iterator.return?.();
  producer.putNumber(4);
  const fail = () => {
    throw new Error("on purpose");
  };
  expect(() => ring.drain(fail)).toThrow("on purpose");
  expect(other.drain(() => {})).toBe(0);
});

bpfTest("a drain inside a drain throws, and the outer one continues", () => {
  using setup = numbers();
  const { ring, producer } = setup;
  producer.putNumber(1);
  producer.putNumber(2);
  let refusals = 0;
  const count = ring.drain(() => {
    expect(() => ring.drain(() => {})).toThrow(
      `${ring} has a consumer already: end that drain first`,
    );
    expect(() => ring[Symbol.asyncIterator]()).toThrow("end that drain first");
    refusals++;
  });
  expect([count, refusals]).toEqual([2, 2]);
});

bpfTest("drain() leaves events that programs write during the call", () => {
  using setup = numbers();
  const { ring, producer } = setup;
  producer.putNumber(0);
  const events: number[] = [];
  ring.drain((event) => {
    events.push(event);
    // Ends a drain that would otherwise be endless.
    if (events.length < 1000) producer.putNumber(event + 1);
  });
  expect(events).toEqual([0]);
  expect(drained(ring)).toEqual([1]);
});

bpfTest("a long drain releases room before it ends", () => {
  using setup = numbers();
  const { ring, producer } = setup;
  while (producer.putNumber(0));
  let readmitted = 0;
  const count = ring.drain(() => {
    if (producer.putNumber(1)) readmitted++;
  });
  expect(count).toBe(4096 / 16 - 1);
  expect(readmitted).toBeGreaterThan(count / 2);
});

bpfTest(
  "two objects for one ring can drain in turn, and each record is delivered to one of them",
  () => {
    using setup = numbers();
    const { ring, producer } = setup;
    using other = ring.dup();
    const seen: number[] = [];
    for (let value = 0; value < 2000; value++) {
      expect(producer.putNumber(value)).toBe(true);
      if (value % 3 === 0) seen.push(...drained(value % 2 === 0 ? ring : other));
    }
    seen.push(...drained(other));
    expect(seen).toEqual(Array.from({ length: 2000 }, (_, value) => value));
  },
);

bpfTest("drain() and drainRaw() check their arguments before they consume anything", () => {
  using setup = numbers();
  const { ring, producer } = setup;
  producer.putNumber(1);
  expect(() => ring.drain(() => {}, { limit: 0 })).toThrow(RangeError);
  expect(() => ring.drain(() => {}, { limit: 1.5 })).toThrow("limit");
  // @ts-expect-error: misspelt on purpose
  expect(() => ring.drain(() => {}, { limits: 1 })).toThrow('did you mean "limit"?');
  // @ts-expect-error: not a function on purpose
  expect(() => ring.drainRaw(1)).toThrow(TypeError);
  // @ts-expect-error: not a function on purpose
  expect(() => ring.drain(undefined)).toThrow(TypeError);
  expect(drained(ring)).toEqual([1]);
});
