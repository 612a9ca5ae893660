// Callbacks that use their consumer or its ring: each event is delivered once, and the ring stays intact.
import { expect, test } from "bun:test";
import { RingBuf, type Subscription, t } from "../../src/index.ts";
import { PullIterator, eventItems } from "../../src/ring/iterators.ts";
import { RingReader, SnapshotRing } from "../../src/ring/reader.ts";
import { consumeSettings } from "../../src/ring/ring_options.ts";
import { CallbackConsumer } from "../../src/ring/subscription.ts";
import { bpfTest } from "../support/privilege.ts";
import { FakeOverwriteRing } from "./fake_overwrite_ring.ts";
import { FakeRing } from "./fake_ring.ts";
import { FakeSource } from "./fake_source.ts";
import { Producer } from "./producer.ts";
import { producedRing } from "./rings.ts";

function setup(count: number) {
  const made = producedRing(t.struct({ value: t.u32 }));
  for (let value = 0; value < count; value++) made.producer.putNumber(value);
  return made;
}

const numbers = (count: number) => Array.from({ length: count }, (_, index) => index);
const drainError = "is being drained: call this after the running callback has returned";

/** Subscribes to a ring. At the event `last`, the callback ends the subscription and calls `then`. */
async function subscribeUntil(
  ring: RingBuf<t.Type<{ value: number }>>,
  last: number,
  seen: number[],
  then: () => void,
): Promise<Subscription> {
  const done = Promise.withResolvers<void>();
  const subscription: Subscription = ring.subscribe(({ value }) => {
    seen.push(value);
    if (value !== last) return;
    subscription[Symbol.dispose]();
    try {
      then();
    } finally {
      setImmediate(done.resolve);
    }
  });
  await done.promise;
  return subscription;
}

bpfTest(
  "a drain in the callback of a subscription that it has ended throws until the callback returns",
  async () => {
    using test = setup(200);
    const { ring, producer } = test;
    const seen: number[] = [];
    await subscribeUntil(ring, 149, seen, () => {
      expect(() => ring.drain(() => {})).toThrow(drainError);
      expect(() => ring.drainRaw(() => {})).toThrow(drainError);
    });
    ring.drain(({ value }) => void seen.push(value));
    expect(seen).toEqual(numbers(200));
    expect(ring.stats.events).toBe(200);
    expect(producer.putNumber(1)).toBe(true);
  },
);

bpfTest("another object for the ring can continue in the callback", async () => {
  using test = setup(20);
  const { ring } = test;
  using other = ring.dup();
  const seen: number[] = [];
  await subscribeUntil(ring, 7, seen, () => {
    other.drain(({ value }) => void seen.push(value), { limit: 5 });
  });
  expect(seen).toEqual(numbers(13));
  ring.drain(({ value }) => void seen.push(value));
  expect(seen).toEqual(numbers(20));
  expect(ring.backlog).toBe(0);
});

bpfTest(
  "every other consumer can start in the callback, and continues after its event",
  async () => {
    const kinds: readonly ((
      ring: RingBuf<t.Type<{ value: number }>>,
    ) => AsyncIterable<number[]>)[] = [
      async function* (ring) {
        for await (const { value } of ring) yield [value];
      },
      async function* (ring) {
        for await (const batch of ring.batches({ max: 3 })) yield batch.map(({ value }) => value);
      },
      async function* (ring) {
        for await (const batch of ring.batches({ max: 3, inPlace: true })) {
          yield Array.from(batch, ({ value }) => value);
        }
      },
    ];
    for (const kind of kinds) {
      using test = setup(10);
      const { ring } = test;
      const seen: number[] = [];
      const done = Promise.withResolvers<void>();
      const go = async () => {
        for await (const values of kind(ring)) {
          seen.push(...values);
          if (seen.length >= 10) break;
        }
      };
      await subscribeUntil(ring, 4, seen, () => {
        done.resolve(go());
        expect(ring.flush()).toBe(0);
      });
      await done.promise;
      expect(seen).toEqual(numbers(10));
    }
  },
);

bpfTest("no event is delivered twice if `read` of its type ends the iteration", async () => {
  let ends = () => {};
  const Odd = t.custom<number>({
    size: 4,
    read(view, offset) {
      ends();
      return view.getUint32(offset, true);
    },
    write() {},
  });
  using ring = new RingBuf({ size: 4096, event: Odd });
  using producer = new Producer(ring);
  for (const value of numbers(5)) producer.putNumber(value);
  const batches = ring.batches();
  ends = () => {
    ends = () => {};
    void batches.return?.();
    expect(() => ring.drainRaw(() => {})).toThrow(drainError);
  };
  const { value: first } = await batches.next();
  expect(first).toEqual([0]);
  const rest: number[] = [];
  ring.drain((value) => void rest.push(value));
  expect(rest).toEqual([1, 2, 3, 4]);
});

bpfTest("a nested drain that throws does not change the events of the outer one", () => {
  using test = setup(2);
  const { ring } = test;
  const values: number[] = [];
  ring.drain(
    (event) => {
      expect(() => ring.drain(() => {}, { inPlace: true })).toThrow("end that drain first");
      values.push(event.value);
    },
    { inPlace: true },
  );
  expect(values).toEqual([0, 1]);
});

bpfTest("discarded records are counted once by every kind of consumer", async () => {
  using test = setup(1);
  const { ring, producer } = test;
  producer.discard();
  producer.putNumber(1);
  producer.discard();
  const seen: number[] = [];
  for (let count = 0; count < 2; count++) {
    for await (const { value } of ring) {
      seen.push(value);
      break;
    }
  }
  expect(seen).toEqual([0, 1]);
  ring.drain(() => {});
  expect(ring.stats).toMatchObject({ events: 2, discarded: 2, backlog: 0, bytes: 32 + 64 });
  producer.discard();
  producer.putNumber(2);
  producer.discard();
  for await (const batch of ring.batches({ inPlace: true })) {
    expect(batch.length).toBe(1);
    break;
  }
  expect(ring.stats).toMatchObject({ events: 3, discarded: 4, backlog: 0 });
});

bpfTest(
  "several waiting calls of next() get their batches in place in separate turns",
  async () => {
    using test = setup(0);
    const { ring, producer } = test;
    const batches = ring.batches({ max: 1, inPlace: true });
    const read = async () => {
      const { value } = await batches.next();
      return value === undefined
        ? []
        : Array.from(value, (event: { value: number }) => event.value);
    };
    const reading = [read(), read(), read()];
    for (const value of numbers(3)) producer.putNumber(value);
    expect(await Promise.all(reading)).toEqual([[0], [1], [2]]);
    await batches.return?.();
  },
);

bpfTest("a stream reads no more events ahead than its highWaterMark", async () => {
  using ring = new RingBuf({ size: 65536, event: t.u32 });
  using producer = new Producer(ring);
  for (const value of numbers(300)) producer.putNumber(value);
  const reader = ring.stream({ highWaterMark: 8 }).getReader();
  for (const value of numbers(20)) {
    expect(await reader.read()).toEqual({ done: false, value });
    await Bun.sleep(0);
    expect(ring.stats.events).toBeLessThanOrEqual(value + 1 + 8);
  }
  await reader.cancel();
});

bpfTest("the ring does not keep the callbacks of earlier drains alive", async () => {
  using ring = new RingBuf({ size: 4096, event: t.u32 });
  const drainOnce = () => {
    const large = new Uint8Array(1 << 20);
    const callback = () => void large.length;
    ring.drain(callback);
    return new WeakRef(callback);
  };
  const callbacks = Array.from({ length: 10 }, drainOnce);
  for (let round = 0; round < 20; round++) {
    await Bun.sleep(1);
    Bun.gc(true);
  }
  // The garbage collector can mistake a value on the stack for a reference.
  expect(callbacks.filter((callback) => callback.deref() !== undefined).length).toBeLessThan(5);
});

test("other consumers are allowed even if the end of a wait fails", async () => {
  const dispose = new Error("of the watch");
  const settings = consumeSettings("test", {}, []);
  const source = new FakeSource(new FakeRing(), t.u32);
  source.failures = { dispose };
  const iterator = new PullIterator(source, "iteration", settings, eventItems(source));
  const waiting = iterator.next();
  expect(source.isFree).toBe(false);
  expect(() => iterator.end()).toThrow(dispose);
  expect(await waiting).toEqual({ done: true, value: undefined });
  expect(source.isFree).toBe(true);

  const other = new FakeSource(new FakeRing(), t.u32);
  other.failures = { dispose };
  const subscription = new CallbackConsumer(other, settings, () => () => {}, undefined, undefined);
  expect(() => subscription[Symbol.dispose]()).toThrow(dispose);
  expect([subscription.active, other.isFree]).toEqual([false, true]);
});

bpfTest("an iteration that starts and ends in the callback releases nothing", async () => {
  using test = setup(10);
  const { ring, producer } = test;
  producer.discard();
  const seen: number[] = [];
  for await (const { value } of ring) {
    seen.push(value);
    if (value === 3) break;
  }
  await subscribeUntil(ring, 5, seen, () => void ring.events().return?.());
  ring.drain(({ value }) => void seen.push(value));
  expect(seen).toEqual(numbers(10));
  expect(ring.stats).toMatchObject({ events: 10, discarded: 1, bytes: 10 * 16 + 32, backlog: 0 });
});

test("disposal detaches the views of the copy of a ring in overwrite mode", () => {
  const memory = new FakeOverwriteRing(4096);
  const reader = new RingReader(new SnapshotRing(memory, 4096), 4096, "fake ring");
  memory.put(1, 8);
  let kept: DataView | undefined;
  reader.drain((view) => void (kept = view), 10);
  expect(kept?.getUint8(8)).toBe(1);
  reader[Symbol.dispose]();
  expect(() => kept?.getUint8(8)).toThrow(TypeError);
});
