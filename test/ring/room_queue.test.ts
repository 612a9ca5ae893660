import { expect, test } from "bun:test";
import { getEventListeners } from "node:events";
import { DisposedError } from "../../src/index.ts";
import { RoomQueue, type RoomSignal } from "../../src/ring/room_queue.ts";

/** A queue of a fake ring. The test sets the room and sends the wake-ups. */
class Room implements Disposable {
  readonly queue: RoomQueue;
  room = 0;
  checks = 0;
  armed = 0;
  /** True while a wait is armed. */
  isArmed = false;
  isReferenced = true;
  isSignalOpen = false;
  failure: Error | undefined;
  wake = (): void => {};
  readonly taken: number[] = [];

  constructor() {
    const writer = {
      hasRoomFor: (length: number) => {
        this.checks++;
        if (this.failure !== undefined) throw this.failure;
        return length <= this.room;
      },
      disposedError: () => new DisposedError("fake ring"),
    };
    this.queue = new RoomQueue(writer, (onRoom) => this.#signal(onRoom));
  }

  #signal(onRoom: () => void): RoomSignal {
    this.isSignalOpen = true;
    this.wake = () => {
      this.isArmed = false;
      onRoom();
    };
    return {
      forget: () => {},
      arm: () => {
        this.armed++;
        this.isArmed = true;
      },
      disarm: () => {
        this.isArmed = false;
      },
      keepAlive: (alive) => {
        this.isReferenced = alive;
      },
      [Symbol.dispose]: () => {
        this.isSignalOpen = false;
      },
    };
  }

  /** Waits for room and uses it. */
  take(length: number, signal?: AbortSignal): Promise<number> {
    const take = (): number => {
      this.room -= length;
      this.taken.push(length);
      return length;
    };
    return this.queue.wait(length, take, signal);
  }

  /** Adds room and sends a wake-up. */
  free(length: number): void {
    this.room += length;
    this.wake();
  }

  [Symbol.dispose](): void {
    this.queue[Symbol.dispose]();
  }
}

/** Returns the state of a promise: its value, its error or "waits". */
async function stateOf(promise: Promise<unknown>): Promise<string> {
  await Bun.sleep(0);
  const pending = Symbol("pending");
  try {
    const value = await Promise.race([promise, pending]);
    return value === pending ? "waits" : `${value as number}`;
  } catch (error) {
    return `${error}`;
  }
}

test("waits are served in order, even if a later one would fit", async () => {
  using room = new Room();
  const waiting = [room.take(100), room.take(8), room.take(50)];
  room.free(60);
  expect(await Promise.all(waiting.map(stateOf))).toEqual(["waits", "waits", "waits"]);
  room.free(50);
  expect(await Promise.all(waiting.map(stateOf))).toEqual(["100", "8", "waits"]);
  expect(room.isArmed).toBe(true);
  room.free(50);
  expect(await Promise.all(waiting)).toEqual([100, 8, 50]);
  expect([room.room, room.isArmed, room.queue.serve()]).toEqual([2, false, false]);
  expect(room.queue).toMatchObject({ waits: 3, wakeups: 3 });
});

test("serve() serves waiting calls before the wake-up arrives", async () => {
  using room = new Room();
  const waiting = room.take(10);
  expect(room.queue.serve()).toBe(true);
  // Programs have drained, but the wake-up is still pending.
  room.room = 10;
  expect(room.queue.serve()).toBe(false);
  expect([room.room, room.isArmed]).toEqual([0, false]);
  expect(await waiting).toBe(10);
});

test("a signal removes a wait from the queue, and the next one is served", async () => {
  using room = new Room();
  room.room = 10;
  const abort = new AbortController();
  const waiting = [room.take(100, abort.signal), room.take(10), room.take(10)];
  const reason = new Error("on purpose");
  abort.abort(reason);
  expect(await Promise.allSettled(waiting.slice(0, 2))).toEqual([
    { status: "rejected", reason },
    { status: "fulfilled", value: 10 },
  ]);
  expect(room.taken).toEqual([10]);
  expect(getEventListeners(abort.signal, "abort")).toEqual([]);
  expect(await stateOf(waiting[2] as Promise<number>)).toBe("waits");
  // The wait in the middle, and the last one.
  const others = [new AbortController(), new AbortController()];
  const more = others.map(({ signal }) => room.take(5, signal));
  for (const other of others) other.abort(reason);
  expect(await Promise.allSettled(more)).toEqual(Array(2).fill({ status: "rejected", reason }));
  room.free(100);
  expect(await waiting[2]).toBe(10);
  expect(room.taken).toEqual([10, 10]);
});

test("a signal has no listener after the wait", async () => {
  using room = new Room();
  const { signal } = new AbortController();
  const waiting = room.take(10, signal);
  expect(getEventListeners(signal, "abort")).toHaveLength(1);
  room.free(10);
  await waiting;
  expect(getEventListeners(signal, "abort")).toEqual([]);
});

test("an empty queue does not check for room", async () => {
  using room = new Room();
  const abort = new AbortController();
  const waiting = [room.take(10), room.take(20, abort.signal)];
  room.free(10);
  await waiting[0];
  abort.abort();
  await expect(waiting[1]).rejects.toThrow("aborted");
  await Bun.sleep(0);
  expect(room.isArmed).toBe(false);
  const { checks } = room;
  await Bun.sleep(60);
  expect(room.checks).toBe(checks);
});

test("room without a wake-up is found by checks with increasing delays", async () => {
  using room = new Room();
  const waiting = room.take(10);
  await Bun.sleep(400);
  // After 1, 3, 7, 15, 31, 63, 113 ms, and then every 50 ms.
  const { polls } = room.queue;
  expect(polls).toBeLessThanOrEqual(14);
  expect(polls).toBeGreaterThan(5);
  expect(room.queue.wakeups).toBe(0);
  room.room = 10;
  expect(await waiting).toBe(10);
});

test("wake-ups with too little room do not end the wait, which is armed again", async () => {
  using room = new Room();
  const waiting = room.take(10);
  for (let count = 0; count < 10; count++) {
    expect(room.armed).toBe(count + 1);
    room.free(1);
  }
  expect(await waiting).toBe(10);
  expect(room.armed).toBe(10);
});

test("an error rejects the waits that it affects", async () => {
  using room = new Room();
  const failure = new Error("on purpose");
  const fail = (): never => {
    throw failure;
  };
  const first = room.queue.wait(1, fail, undefined);
  const second = room.take(1);
  room.free(1);
  expect(await Promise.allSettled([first, second])).toEqual([
    { status: "rejected", reason: failure },
    { status: "fulfilled", value: 1 },
  ]);
  const waiting = [room.take(10), room.take(20)];
  room.failure = failure;
  room.wake();
  expect(await Promise.allSettled(waiting)).toEqual(
    Array(2).fill({ status: "rejected", reason: failure }),
  );
  expect([room.isArmed, room.queue.serve()]).toEqual([false, false]);
  room.failure = undefined;
  room.room = 5;
  expect(await room.take(5)).toBe(5);
});

test("a wait that cannot start is rejected", async () => {
  const failure = new Error("wait failed on purpose");
  const writer = { hasRoomFor: () => false, disposedError: () => new DisposedError("fake ring") };
  using queue = new RoomQueue(writer, () => {
    throw failure;
  });
  for (let attempt = 0; attempt < 2; attempt++) {
    await expect(queue.wait(1, () => 1, undefined)).rejects.toBe(failure);
    expect(queue.serve()).toBe(false);
  }
});

test("disposal rejects waits and ends the checks", async () => {
  const room = new Room();
  const abort = new AbortController();
  const waiting = [room.take(1), room.take(2, abort.signal)];
  room[Symbol.dispose]();
  room[Symbol.dispose]();
  for (const each of waiting) await expect(each).rejects.toThrow(DisposedError);
  abort.abort();
  const { checks } = room;
  await Bun.sleep(20);
  expect([room.checks, room.isArmed, room.isSignalOpen]).toEqual([checks, false, false]);
});

test("keepAlive() works before a wait starts and during it", async () => {
  using room = new Room();
  room.queue.keepAlive(false);
  const waiting = room.take(1);
  expect(room.isReferenced).toBe(false);
  room.queue.keepAlive(true);
  expect(room.isReferenced).toBe(true);
  room.queue.keepAlive(false);
  room.free(1);
  expect(await waiting).toBe(1);
});
