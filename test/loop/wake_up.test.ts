import { expect } from "bun:test";
import { availableParallelism } from "node:os";
import { ArrayMap, asm, Program, RingBuf, t, features } from "../../src/index.ts";
import { counter, counterState, countedEvent, packet, Producer } from "../ring/producer.ts";
import { bpfTest } from "../support/privilege.ts";
import { countResources } from "../support/resources.ts";
import { bridgeTest } from "./bridges.ts";
import type { RaceOrder } from "./children/racing_producer.ts";
import { testWith } from "../support/needs.ts";
import { skipping } from "../support/skipping.ts";
import { repetitions } from "../support/effort.ts";
import { endWorker } from "../support/end_worker.ts";

/** Creates a program that takes at least about 20 ms between reserving a record and submitting it. */
function slowProducer(ring: RingBuf<t.Type<number>>): Program {
  const { r0, r1, r2, r3, r4, r6 } = asm;
  const mostRepetitions = 1 << 23;
  return new Program({
    section: "socket",
    license: "GPL",
    maps: { ring },
    code: [
      ...[asm.ldMap(r1, "ring"), asm.mov(r2, 8), asm.mov(r3, 0), asm.call("ringbuf_reserve")],
      ...[asm.jeq(r0, 0, "full"), asm.mov(r6, r0), asm.stdw(r6, 0, 1)],
      ...[asm.mov(r1, mostRepetitions), asm.ldFunc(r2, "wait"), asm.mov(r3, 0), asm.mov(r4, 0)],
      ...[asm.call("loop"), asm.mov(r1, r6), asm.mov(r2, 0), asm.call("ringbuf_submit")],
      ...[asm.label("full"), asm.mov(r0, 0), asm.exit()],
      ...[asm.func("wait"), asm.mov(r0, 0), asm.exit()],
    ],
  });
}

const children = `${import.meta.dir}/children`;

bridgeTest(
  "records that are submitted while the loop sleeps are delivered one by one",
  async (bridge) => {
    using ring = new RingBuf({ size: 4096, event: t.u32 });
    using producer = new Producer(ring);
    // A timer takes a millisecond for each.
    const records = repetitions(bridge === "timer" ? 500 : 2000, 200);
    let expected = 0;
    setImmediate(() => producer.putNumber(0));
    for await (const event of ring) {
      expect(event).toBe(expected++);
      if (expected === records) break;
      setImmediate(() => producer.putNumber(expected));
    }
    expect(ring.backlog).toBe(0);
  },
  bpfTest,
);

bridgeTest(
  "no wake-up is lost between a drain and the wait after it",
  async () => {
    using ring = new RingBuf({ size: 4096, event: countedEvent });
    using state = new ArrayMap({ value: counterState, length: 1 });
    using program = counter(ring, state);
    const order: RaceOrder = { programFd: program.fd, records: repetitions(20_000, 2000), packet };
    const worker = new Worker(`${children}/racing_producer.ts`, { ref: false });
    worker.postMessage(order);
    let expected = 0;
    for await (const { sequence } of ring) {
      expect(sequence).toBe(expected++);
      if (expected === order.records) break;
    }
    await endWorker(worker);
    expect(expected).toBe(order.records);
  },
  testWith(features.instructions.get("fetching_atomics")),
);

bridgeTest(
  "64 rings on one loop wake their own consumers",
  async () => {
    const rings = Array.from({ length: 64 }, () => new RingBuf({ size: 4096, event: t.u32 }));
    const producers = rings.map((ring) => new Producer(ring));
    const consume = async (ring: RingBuf<t.Type<number>>, index: number) => {
      let expected = index * 1000;
      for await (const event of ring) {
        expect(event).toBe(expected++);
        if (expected === index * 1000 + 20) return;
      }
    };
    try {
      const consumers = rings.map(consume);
      for (let round = 0; round < 20; round++) {
        for (const [index, producer] of producers.entries()) {
          producer.putNumber(index * 1000 + round);
        }
        await Bun.sleep(round % 3);
      }
      await Promise.all(consumers);
    } finally {
      for (const disposable of [...rings, ...producers]) disposable[Symbol.dispose]();
    }
  },
  bpfTest,
);

bridgeTest(
  "iterations that start, wait and end leave nothing open",
  async (bridge) => {
    using ring = new RingBuf({ size: 4096, event: t.u32 });
    const before = countResources();
    // Destroying an AIO context waits for an RCU grace period, which takes tens of milliseconds.
    for (let round = bridge === "aio" ? 30 : repetitions(1000, 100); round > 0; round--) {
      const iterator = ring[Symbol.asyncIterator]();
      const next = iterator.next();
      await iterator.return?.();
      expect(await next).toEqual({ done: true, value: undefined });
    }
    // Bun closes its end of the socket in a later turn of the loop.
    await Bun.sleep(30);
    expect(countResources()).toEqual(before);
  },
  bpfTest,
);

/** The consumer needs a second CPU, because no thread can interrupt the program while it loops. */
const loopTest =
  availableParallelism() < 2
    ? skipping("it needs two CPUs")
    : testWith(features.helpers("socket_filter").get("loop"));

bridgeTest(
  "a record that stays reserved for long is delivered before the records after it",
  async () => {
    // On a busy machine the record may be submitted before this thread reads the ring. Then the test tries again.
    let wasHeld = false;
    for (let attempt = 0; attempt < 50 && !wasHeld; attempt++) {
      using ring = new RingBuf({ size: 4096, event: t.u32 });
      using producer = new Producer(ring);
      using slow = slowProducer(ring);
      const worker = new Worker(`${children}/racing_producer.ts`, { ref: false });
      const order: RaceOrder = { programFd: slow.fd, records: 1, packet };
      worker.postMessage(order);
      // A backlog means that the record is reserved.
      while (ring.backlog === 0) await Bun.sleep(0);
      producer.putNumber(2);
      const events: number[] = [];
      wasHeld = ring.drain((event) => events.push(event)) === 0;
      if (events.length < 2) {
        for await (const event of ring) {
          events.push(event);
          if (events.length === 2) break;
        }
      }
      await endWorker(worker);
      expect(events).toEqual([1, 2]);
    }
    expect(wasHeld).toBe(true);
  },
  loopTest,
);

bridgeTest(
  "a Worker has its own loop",
  async () => {
    using ring = new RingBuf({ size: 4096, event: t.u32 });
    using producer = new Producer(ring);
    const worker = new Worker(`${children}/consumer_worker.ts`, {
      env: { ...process.env } as Record<string, string>,
    });
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    worker.onmessage = ({ data }) => {
      if (data === "ready") for (let value = 0; value < 50; value++) producer.putNumber(value);
      else resolve(data);
    };
    worker.onerror = ({ message }) => reject(new Error(message));
    worker.postMessage(ring.fd);
    expect(await promise).toBe(50);
    await endWorker(worker);
  },
  bpfTest,
);
