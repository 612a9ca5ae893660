// Consumers of perf buffers that wait for the kernel to wake them.
import { describe, expect } from "bun:test";
import { PerCpuArrayMap, PerfBuffer, t } from "../../src/index.ts";
import { bridgeTest } from "../loop/bridges.ts";
import { bpfTest } from "../support/privilege.ts";
import { runBun } from "../support/run.ts";
import {
  onCpu,
  perfCounted,
  perfCounter,
  perfCounterState,
  PerfProducer,
} from "./perf_producer.ts";
import type { AnsweredOrder } from "./children/answered_producer.ts";
import { packet } from "./producer.ts";
import { repetitions } from "../support/effort.ts";
import { endWorker } from "../support/end_worker.ts";
import { runMany } from "../support/run_program.ts";

const size = 4096;
const children = `${import.meta.dir}/children`;
const valueEvent = t.struct({ value: t.u32 });

/** A bpfTest with a longer timeout, for machines that are busy with something else. */
const slowBpfTest = ((name: string, body: () => Promise<void>) =>
  bpfTest(name, body, 60_000)) as typeof bpfTest;

/** Waits until a condition holds, for at most two seconds. */
async function until(condition: () => boolean): Promise<void> {
  for (let left = 2000; !condition() && left > 0; left--) await Bun.sleep(1);
  expect(condition()).toBe(true);
}

function numbers(count: number, from = 0): number[] {
  return Array.from({ length: count }, (_, index) => from + index);
}

/** Writes numbers on one CPU after the other, each from a timer. */
function putOnEach(
  buffer: PerfBuffer<t.Type<unknown>>,
  producer: PerfProducer,
  count: number,
): void {
  let value = 0;
  const put = () => {
    const cpu = buffer.cpus[value % buffer.cpus.length] as number;
    onCpu(cpu, () => producer.putNumber(value)) ?? producer.putNumber(value);
    if (++value < count) setTimeout(put, value % 3);
  };
  setTimeout(put, 1);
}

describe("events of all CPUs", () => {
  bridgeTest(
    "are delivered one by one",
    async () => {
      using buffer = new PerfBuffer({ event: t.u32, size });
      using producer = new PerfProducer(buffer);
      putOnEach(buffer, producer, 40);
      const events: number[] = [];
      for await (const event of buffer) {
        events.push(event);
        expect(buffer.cpus).toContain(buffer.cpu);
        if (events.length === 40) break;
      }
      expect(events.sort((a, b) => a - b)).toEqual(numbers(40));
      expect(buffer.stats.wakeups).toBeGreaterThan(0);
    },
    bpfTest,
  );

  bridgeTest(
    "are delivered to a subscription",
    async () => {
      using buffer = new PerfBuffer({ event: valueEvent, size });
      using producer = new PerfProducer(buffer);
      const events: number[] = [];
      const cpus = new Set<number>();
      using subscription = buffer.subscribe(
        ({ value }) => {
          events.push(value);
          cpus.add(buffer.cpu);
        },
        { inPlace: true },
      );
      putOnEach(buffer, producer, 40);
      await until(() => events.length === 40);
      expect(events.sort((a, b) => a - b)).toEqual(numbers(40));
      expect(subscription.stats).toMatchObject({ events: 40, lost: 0, backlog: 0 });
      for (const cpu of cpus) expect(buffer.cpus).toContain(cpu);
    },
    bpfTest,
  );

  bpfTest("are delivered in place to a raw subscription", async () => {
    using buffer = new PerfBuffer({ event: t.u32, size });
    using producer = new PerfProducer(buffer);
    const events: number[] = [];
    using _ = buffer.subscribeRaw((view, offset, length) => {
      expect(length).toBe(4);
      events.push(view.getUint32(offset, true));
    });
    putOnEach(buffer, producer, 20);
    await until(() => events.length === 20);
    expect(events.sort((a, b) => a - b)).toEqual(numbers(20));
  });

  bpfTest("are delivered in arrays", async () => {
    using buffer = new PerfBuffer({ event: t.u32, size });
    using producer = new PerfProducer(buffer);
    for (const cpu of buffer.cpus) {
      onCpu(cpu, () => numbers(30).forEach((value) => producer.putNumber(value)));
    }
    setTimeout(() => producer.putNumber(1000), 20);
    const events: number[] = [];
    for await (const batch of buffer.batches({ max: 16 })) {
      expect(batch.length).toBeLessThanOrEqual(16);
      events.push(...batch);
      if (batch.includes(1000)) break;
    }
    expect(events.filter((value) => value === 29).length).toBe(buffer.cpus.length);
    expect(events.length % 30).toBe(1);
  });

  bpfTest("are delivered in batches in place, each with events of one CPU", async () => {
    using buffer = new PerfBuffer({ event: valueEvent, size });
    using producer = new PerfProducer(buffer);
    const round = () => {
      for (const cpu of buffer.cpus) {
        onCpu(cpu, () => numbers(100, cpu * 100).forEach((value) => producer.putNumber(value)));
      }
    };
    round();
    let rounds = 1;
    const next = new Map(buffer.cpus.map((cpu) => [cpu, 0]));
    let events = 0;
    for await (const batch of buffer.batches({ max: 64, inPlace: true })) {
      const { cpu } = buffer;
      for (const { value } of batch) {
        const expected = next.get(cpu) ?? 0;
        expect(value).toBe(cpu * 100 + (expected % 100));
        next.set(cpu, expected + 1);
        events++;
      }
      // The batch is iterated a second time: that is allowed until it is released.
      expect([...batch].length).toBe(batch.length);
      if (events < rounds * 100 * buffer.cpus.length) continue;
      // Enough events for the buffers to wrap around several times.
      if (rounds++ === 20) break;
      setTimeout(round, 1);
    }
    expect(events).toBe(20 * 100 * buffer.cpus.length);
  });

  bpfTest("are delivered by a stream", async () => {
    using buffer = new PerfBuffer({ event: t.u32, size });
    using producer = new PerfProducer(buffer);
    putOnEach(buffer, producer, 20);
    const events: number[] = [];
    for await (const event of buffer.stream()) {
      events.push(event);
      if (events.length === 20) break;
    }
    expect(events.sort((a, b) => a - b)).toEqual(numbers(20));
  });

  bpfTest("do not block timers, even if one CPU writes without a pause", async () => {
    using buffer = new PerfBuffer({ event: perfCounted, size: 65536 });
    using states = new PerCpuArrayMap({ value: perfCounterState, length: 1 });
    using program = perfCounter(buffer, states);
    runMany(program, 1000);
    let hasFired = false;
    setTimeout(() => (hasFired = true), 5);
    let events = 0;
    for await (const _ of buffer) {
      if (buffer.backlog < 8000) runMany(program, 1000);
      if (hasFired || ++events === 2_000_000) break;
    }
    expect(hasFired).toBe(true);
  });
});

describe("a wake-up", () => {
  bridgeTest(
    "follows each record that is written while the loop waits",
    async (bridge) => {
      using buffer = new PerfBuffer({ event: t.u32, size });
      using producer = new PerfProducer(buffer);
      // A timer takes a millisecond for each.
      const records = repetitions(bridge === "timer" ? 500 : 2000, 200);
      let expected = 0;
      const put = () => {
        // Several on one CPU, then several on the next.
        const cpu = buffer.cpus[Math.floor(expected / 50) % buffer.cpus.length] as number;
        onCpu(cpu, () => producer.putNumber(expected)) ?? producer.putNumber(expected);
      };
      setImmediate(put);
      for await (const event of buffer) {
        expect(event).toBe(expected++);
        if (expected === records) break;
        setImmediate(put);
      }
      expect(buffer.backlog).toBe(0);
    },
    slowBpfTest,
  );

  bridgeTest(
    "is not lost between a drain and the wait after it",
    async (bridge) => {
      using buffer = new PerfBuffer({ event: perfCounted, size });
      using states = new PerCpuArrayMap({ value: perfCounterState, length: 1 });
      using program = perfCounter(buffer, states);
      const answers = new Int32Array(new SharedArrayBuffer(4));
      // With such a bug, one wake-up in some thousands is lost, and then no other follows.
      const records = repetitions(bridge === "timer" ? 500 : 10_000);
      const order: AnsweredOrder = { programFd: program.fd, records, packet, answers };
      const worker = new Worker(`${children}/answered_producer.ts`, { ref: false });
      worker.postMessage(order);
      let events = 0;
      for await (const _ of buffer) {
        Atomics.store(answers, 0, ++events);
        if (events === records) break;
      }
      await endWorker(worker);
    },
    slowBpfTest,
  );

  bpfTest("comes at the watermark; records below it are delivered by flush()", async () => {
    const watermark = 1024;
    using buffer = new PerfBuffer({ event: t.u32, size, watermark });
    using producer = new PerfProducer(buffer);
    const cpu = buffer.cpus[0] as number;
    const put = (count: number) =>
      onCpu(cpu, () => {
        for (const value of numbers(count)) expect(producer.putNumber(value)).toBe(true);
      });
    let events = 0;
    using subscription = buffer.subscribe(() => void events++, { wakeup: "interrupt" });
    await Bun.sleep(5);
    put(60);
    await Bun.sleep(30);
    expect([events, buffer.backlog]).toEqual([0, 960]);
    // With the 65th record, more than 1024 bytes are written.
    put(5);
    await until(() => events === 65);
    // The watermark counts written bytes, not unread ones.
    put(50);
    await Bun.sleep(30);
    expect(events).toBe(65);
    // In one or several turns of the event loop.
    let flushed = 0;
    for (let part = subscription.flush(); part > 0; part = subscription.flush()) flushed += part;
    expect([flushed, events]).toEqual([50, 115]);
    put(20);
    await until(() => events === 135);
    expect(buffer.stats.wakeups).toBe(2);
  });

  bpfTest("comes after wakeupEvents records; fewer wait for the next read", async () => {
    using buffer = new PerfBuffer({ event: t.u32, size, wakeupEvents: 10 });
    using producer = new PerfProducer(buffer);
    const cpu = buffer.cpus[0] as number;
    const put = (count: number) =>
      onCpu(cpu, () => {
        for (const value of numbers(count)) expect(producer.putNumber(value)).toBe(true);
      });
    let events = 0;
    using subscription = buffer.subscribe(() => void events++, { wakeup: "interrupt" });
    await Bun.sleep(5);
    put(9);
    await Bun.sleep(30);
    expect([events, buffer.stats.wakeups]).toEqual([0, 0]);
    put(1);
    await until(() => events === 10);
    // The kernel counts written records, read or unread.
    put(4);
    expect(subscription.flush()).toBe(4);
    put(5);
    await Bun.sleep(30);
    expect(events).toBe(14);
    put(1);
    await until(() => events === 20);
    expect(buffer.stats.wakeups).toBe(2);
  });

  bpfTest("that a watermark delays is replaced by maxLatency", async () => {
    using buffer = new PerfBuffer({ event: t.u32, size, watermark: 2048 });
    using producer = new PerfProducer(buffer);
    let events = 0;
    using _ = buffer.subscribe(() => void events++, { maxLatency: 10 });
    await Bun.sleep(5);
    producer.putNumber(1);
    await until(() => events === 1);
    expect(buffer.stats.wakeups).toBe(0);
  });

  bpfTest("is not missed after a timer has read a burst", async () => {
    using buffer = new PerfBuffer({ event: t.u32, size: 65536 });
    using producer = new PerfProducer(buffer);
    let events = 0;
    using _ = buffer.subscribe(() => void events++);
    let written = 0;
    for (let burst = 0; burst < 20; burst++) {
      for (const cpu of buffer.cpus) {
        onCpu(cpu, () => numbers(100).forEach(() => void (producer.putNumber(0) && written++)));
      }
      await Bun.sleep(burst);
      producer.putNumber(0);
      written++;
      await until(() => events === written);
    }
    expect(buffer.stats.polls).toBeGreaterThan(0);
    expect(buffer.stats.lost).toBe(0);
  });

  bpfTest("keeps the process alive as long as a consumer waits for it", async () => {
    const ended = await runBun([`${children}/perf_lifetime.ts`], { timeout: 20_000 });
    expect(ended).toMatchObject({
      exitCode: 0,
      stdout: "1\nleft\n7\nunreferenced\n",
      stderr: "",
    });
  });
});
