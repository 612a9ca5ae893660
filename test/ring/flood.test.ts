import { expect } from "bun:test";
import { ArrayMap, RingBuf, t, features } from "../../src/index.ts";
import { flood } from "./flood.ts";
import { counter, counterState, countedEvent } from "./producer.ts";
import { testWith } from "../support/needs.ts";
import { isGuest } from "../support/skipping.ts";
import { repetitions } from "../support/effort.ts";
import { runMany } from "../support/run_program.ts";

/** Runs only if programs can count with atomic instructions. */
const countingTest = testWith(features.instructions.get("fetching_atomics"));

countingTest(
  "under flood, each record is delivered once and in order with few checks, while timers and a server run",
  async () => {
    using ring = new RingBuf({ size: 1 << 20, event: countedEvent });
    using state = new ArrayMap({ value: counterState, length: 1 });
    using program = counter(ring, state);
    let next = 0;
    let firstWrong: number | undefined;
    using subscription = ring.subscribe(
      ({ sequence }) => {
        if (sequence !== next++) firstWrong ??= sequence;
      },
      { inPlace: true },
    );
    let ticks = 0;
    const timer = setInterval(() => ticks++, 10);
    using server = Bun.serve({ port: 0, hostname: "127.0.0.1", fetch: () => new Response("here") });
    {
      await using _ = await flood(program.fd);
      for (let request = 0; request < 20; request++) {
        const response = await fetch(server.url);
        expect(await response.text()).toBe("here");
        await Bun.sleep(20);
      }
    }
    clearInterval(timer);
    for (
      let left = 200;
      left > 0 && (ring.backlog > 0 || next < (state.get(0)?.next ?? 0));
      left--
    ) {
      await Bun.sleep(5);
    }
    expect(firstWrong).toBeUndefined();
    const { events, batches, wakeups, polls } = subscription.stats;
    expect(events).toBe(next);
    expect(next).toBe(state.get(0)?.next as number);
    expect(next).toBeGreaterThan(isGuest ? 1000 : 10_000);
    // More than one record per check, and most checks by timer.
    expect(batches).toBeLessThan(events / 4);
    expect(polls).toBeGreaterThan(wakeups / 4);
    expect(ticks).toBeGreaterThan(3);
  },
);

countingTest(
  "under flood, for await delivers in order, and events without room are counted",
  async () => {
    using ring = new RingBuf({ size: 16384, event: countedEvent });
    using state = new ArrayMap({ value: counterState, length: 1 });
    using program = counter(ring, state);
    await using _ = await flood(program.fd);
    const records = repetitions(200_000, 20_000);
    let next = 0;
    let turns = 0;
    const timer = setInterval(() => turns++, 1);
    for await (const { sequence } of ring) {
      if (sequence !== next++) throw new Error(`${sequence} instead of ${next - 1}`);
      if (next === records) break;
    }
    clearInterval(timer);
    expect(turns).toBeGreaterThan(0);
  },
);

countingTest(
  "memory does not grow while millions of events are read in place or raw",
  async () => {
    using ring = new RingBuf({ size: 256 * 1024, event: t.struct({ sequence: t.u64Number }) });
    using state = new ArrayMap({ value: counterState, length: 1 });
    using program = counter(ring, state);
    let sum = 0;
    const drains = [
      () => ring.drain(({ sequence }) => void (sum += sequence), { inPlace: true }),
      () => ring.drainRaw((view, offset) => void (sum += view.getUint32(offset, true))),
    ];
    let events = 0;
    const fill = (millions: number) => {
      for (const end = events + millions * 1e6; events < end;) {
        runMany(program, 15_000);
        events += drains[events & 1]?.() ?? 0;
      }
    };
    fill(1);
    Bun.gc(true);
    const before = process.memoryUsage().rss;
    fill(4);
    const growth = process.memoryUsage().rss - before;
    expect(growth / 2 ** 20).toBeLessThan(8);
    expect(sum).toBeGreaterThan(0);
  },
  30_000,
);
