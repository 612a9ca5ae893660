import { expect } from "bun:test";
import { t, UserRingBuf } from "../../src/index.ts";
import { roomSignal } from "../../src/ring/room_queue.ts";
import { bridgeTest } from "../loop/bridges.ts";
import { mapTest } from "../support/needs.ts";
import { Drainer } from "./drainer.ts";

const userRingTest = mapTest("user_ringbuf");

const event = t.struct({ length: t.u32, value: t.u32 });
/** Milliseconds in which every bridge reports. */
const milliseconds = 30;

bridgeTest(
  "onReady is called for a drain, and not because the ring is writable",
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
    // forget() discards earlier signals, but not those between it and the wait.
    signal.forget();
    signal.arm();
    await Bun.sleep(milliseconds);
    expect(calls).toBe(1);
    signal.disarm();
    drainer.drain({ limit: 1 });
    signal.arm();
    await Bun.sleep(milliseconds);
    expect(calls).toBe(2);
    // An empty drain signals only with BPF_RB_FORCE_WAKEUP. Another drain signals unless it has BPF_RB_NO_WAKEUP.
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
  "onReady is called for a drain even if writers used the room of earlier drains immediately",
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
