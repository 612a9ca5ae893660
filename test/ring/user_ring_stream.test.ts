import { expect } from "bun:test";
import { DisposedError, t, type UserRingBuf } from "../../src/index.ts";
import { bridgeTest } from "../loop/bridges.ts";
import { mapTest } from "../support/needs.ts";
import { drainedRing } from "./rings.ts";

const userRingTest = mapTest("user_ringbuf");

const event = t.struct({ length: t.u32, value: t.u32 });
const held = 256;

const setUp = () => drainedRing(event);

function* numbers(count: number): Generator<t.Infer<typeof event>> {
  for (let value = 0; value < count; value++) yield { length: 8, value };
}

bridgeTest(
  "a stream writes all piped events, with backpressure of the ring",
  async () => {
    using setup = setUp();
    const { ring, drainer } = setup;
    const count = 3000;
    let taken = 0;
    const source = new ReadableStream(
      {
        pull(controller) {
          if (taken === count) controller.close();
          else controller.enqueue({ length: 8, value: taken++ });
        },
      },
      { highWaterMark: 0 },
    );
    const piped = source.pipeTo(ring.writable());
    const read: number[] = [];
    while (read.length < count) {
      await Bun.sleep(2);
      // One event waits for room, one is in the stream, and one is being piped.
      expect(taken - read.length).toBeLessThanOrEqual(held + 3);
      read.push(...drainer.readNumbers({ limit: 200 }));
    }
    await piped;
    expect(read).toEqual(Array.from({ length: count }, (_, value) => value));
    expect(ring.stats.waits).toBeGreaterThan(0);
  },
  userRingTest,
);

/** Creates a stream with a write that waits for room. */
async function stuck(ring: UserRingBuf<t.Type<t.Infer<typeof event>>>, signal?: AbortSignal) {
  const writer = ring.writable(signal === undefined ? {} : { signal }).getWriter();
  for (const each of numbers(held)) await writer.write(each);
  const waiting = writer.write({ length: 8, value: held });
  const closed = writer.closed;
  // Prevents an unhandled rejection: the promise is awaited later.
  for (const promise of [waiting, closed]) promise.catch(() => {});
  await Bun.sleep(5);
  expect(ring.stats).toMatchObject({ waits: 1, events: held });
  expect(writer.desiredSize).toBe(0);
  return { writer, waiting, closed };
}

userRingTest("abort() of a stream ends the write that waits", async () => {
  using setup = setUp();
  const { ring, drainer } = setup;
  const { writer, waiting } = await stuck(ring);
  const reason = new Error("on purpose");
  await writer.abort(reason);
  await expect(waiting).rejects.toBe(reason);
  expect(drainer.readNumbers()).toHaveLength(held);
  await Bun.sleep(5);
  expect(ring.backlog).toBe(0);
});

userRingTest("the signal errors a stream with and without a waiting write", async () => {
  using setup = setUp();
  const { ring, drainer } = setup;
  const reason = new Error("on purpose");
  const abort = new AbortController();
  const { waiting, closed } = await stuck(ring, abort.signal);
  abort.abort(reason);
  await expect(waiting).rejects.toBe(reason);
  await expect(closed).rejects.toBe(reason);
  expect(drainer.readNumbers()).toHaveLength(held);

  const idle = new AbortController();
  const writer = ring.writable({ signal: idle.signal }).getWriter();
  await writer.write({ length: 8, value: 1 });
  idle.abort(reason);
  await expect(writer.closed).rejects.toBe(reason);
  await expect(writer.write({ length: 8, value: 2 })).rejects.toBe(reason);
  expect(drainer.readNumbers()).toEqual([1]);
  const late = ring.writable({ signal: abort.signal }).getWriter();
  await expect(late.write({ length: 8, value: 3 })).rejects.toBe(reason);
  expect(ring.backlog).toBe(0);
});

userRingTest("a value that the type rejects errors the stream and is not written", async () => {
  using setup = setUp();
  const { ring, drainer } = setup;
  const abort = new AbortController();
  const writer = ring.writable({ signal: abort.signal }).getWriter();
  await writer.write({ length: 8, value: 1 });
  const closed = writer.closed.catch((error: unknown) => error);
  await expect(writer.write({ length: 8, value: -1 })).rejects.toThrow(RangeError);
  expect(await closed).toBeInstanceOf(RangeError);
  expect(drainer.readNumbers()).toEqual([1]);
  abort.abort();
});

userRingTest(
  "disposal of the ring rejects the write that waits and errors the stream",
  async () => {
    using setup = setUp();
    const { ring } = setup;
    const { waiting, closed } = await stuck(ring);
    ring[Symbol.dispose]();
    await expect(waiting).rejects.toThrow(DisposedError);
    await expect(closed).rejects.toThrow(DisposedError);
    expect(() => ring.writable()).toThrow(DisposedError);
  },
);

userRingTest("a closed stream has written all events", async () => {
  using setup = setUp();
  const { ring, drainer } = setup;
  const writer = ring.writable({ highWaterMark: 16 }).getWriter();
  expect(writer.desiredSize).toBe(16);
  for (const each of numbers(10)) void writer.write(each);
  await writer.close();
  expect(drainer.readNumbers()).toHaveLength(10);
});
