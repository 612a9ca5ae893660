import { expect } from "bun:test";
import { t, UserRingBuf } from "../../src/index.ts";
import { roomSignal } from "../../src/ring/room_queue.ts";
import { bridgeTest } from "../loop/bridges.ts";
import { mapTest } from "../support/needs.ts";
import { Drainer } from "./drainer.ts";

const userRingTest = mapTest("user_ringbuf");

const event = t.struct({ length: t.u32, value: t.u32 });
/** Longer than any bridge takes to tell. */
const milliseconds = 30;

bridgeTest(
  "a drain is signalled, and that the ring is writable is not",
  async () => {
    using ring = new UserRingBuf({ size: 4096, event });
    using drainer = new Drainer(ring);
    let calls = 0;
    using signal = roomSignal(ring.fd, `${ring}`, () => {
      calls++;
    });
    for (let value = 0; value < 4; value++) ring.output({ length: 8, value });
    signal.forget();
    signal.arm();
    await Bun.sleep(milliseconds);
    expect(calls).toBe(0);
    drainer.drain({ limit: 1 });
    await Bun.sleep(milliseconds);
    expect(calls).toBe(1);
    // What was signalled before is forgotten; what comes between that and the wait is not.
    signal.forget();
    signal.arm();
    await Bun.sleep(milliseconds);
    expect(calls).toBe(1);
    signal.disarm();
    drainer.drain({ limit: 1 });
    signal.arm();
    await Bun.sleep(milliseconds);
    expect(calls).toBe(2);
    // A drain that finds nothing signals nothing, unless it is told to, and one that finds something unless it is not to.
    signal.forget();
    signal.arm();
    const [noWakeup, forceWakeup] = [1, 2];
    expect(drainer.drain({ flags: noWakeup })).toBe(2);
    expect(drainer.drain()).toBe(0);
    await Bun.sleep(milliseconds);
    expect(calls).toBe(2);
    drainer.drain({ flags: forceWakeup });
    await Bun.sleep(milliseconds);
    expect(calls).toBe(3);
  },
  userRingTest,
);

bridgeTest(
  "a drain is signalled also after others whose room was taken again at once",
  async () => {
    using ring = new UserRingBuf({ size: 4096, event });
    using drainer = new Drainer(ring);
    let calls = 0;
    using signal = roomSignal(ring.fd, `${ring}`, () => {
      calls++;
    });
    const fill = (): void => {
      while (ring.output({ length: 8, value: 0 }));
    };
    fill();
    for (let round = 0; round < 20; round++) {
      signal.forget();
      signal.arm();
      drainer.drain();
      fill();
      await Bun.sleep(1);
    }
    signal.forget();
    signal.arm();
    const before = calls;
    drainer.drain();
    await Bun.sleep(milliseconds);
    expect(calls).toBe(before + 1);
  },
  userRingTest,
);
