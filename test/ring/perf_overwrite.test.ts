// Perf buffers in overwrite mode.
import { describe, expect, test } from "bun:test";
import { MergedEvents, PerCpuArrayMap, PerfBuffer, possibleCpus, t } from "../../src/index.ts";
import { PerfReader } from "../../src/ring/perf_reader.ts";
import { type BackwardPerfBuffer, SnapshotPerf } from "../../src/ring/perf_snapshot.ts";
import { PERF_RECORD_LOST, PERF_RECORD_SAMPLE } from "../../src/uapi/system.ts";
import { bpfTest } from "../support/privilege.ts";
import { anySeed, randomNumbers } from "../support/random_numbers.ts";
import { repetitions } from "../support/effort.ts";
import { countResources } from "../support/resources.ts";
import { numbersOf } from "./fake_perf.ts";
import { flood } from "./flood.ts";
import {
  onCpu,
  perfCounted,
  perfCounter,
  perfCounterState,
  PerfProducer,
} from "./perf_producer.ts";

const ENOSPC = -28;
const size = 4096;
/** Bytes of a record of one 32-bit number. */
const recordSize = 16;
const recordsInBuffer = size / recordSize;

/** A fake of the buffer of one CPU, in ordinary memory. It is written downwards over unread records, as the kernel does. */
class FakeBackward implements BackwardPerfBuffer {
  readonly data = new DataView(new ArrayBuffer(size));
  isPaused = false;
  /** Called when a copy pauses the event: writes what a program completes at that moment. */
  meanwhile: (() => void) | undefined;
  #head = 0;
  readonly #bytes = new Uint8Array(this.data.buffer);

  written(): number {
    return this.#head;
  }

  pause(paused: boolean): void {
    this.isPaused = paused;
    const { meanwhile } = this;
    this.meanwhile = undefined;
    if (paused) meanwhile?.();
  }

  record(type: number, body: Uint8Array): void {
    const record = new Uint8Array(8 + body.length);
    const view = new DataView(record.buffer);
    view.setUint32(0, type, true);
    view.setUint16(6, record.length, true);
    record.set(body, 8);
    this.#head += record.length;
    for (const [at, byte] of record.entries()) {
      this.#bytes[(2 ** 40 - this.#head + at) % size] = byte;
    }
  }

  /** Writes a sample that begins with a number and has this many bytes after it. */
  sample(number: number, more = 0): void {
    const body = new Uint8Array(8 + Math.ceil(more / 8) * 8).fill(number);
    const view = new DataView(body.buffer);
    view.setUint32(0, body.length - 4, true);
    view.setUint32(4, number, true);
    this.record(PERF_RECORD_SAMPLE, body);
  }

  lost(count: number): void {
    this.record(PERF_RECORD_LOST, new Uint8Array(BigUint64Array.of(7n, BigInt(count)).buffer));
  }

  reader(): PerfReader {
    const memory = new SnapshotPerf(this, (paused) => this.pause(paused));
    return new PerfReader([{ cpu: 0, memory }], memory, size, "fake map");
  }
}

describe("a copy of a buffer that is written downwards", () => {
  test("has the complete records since the last copy, oldest first", () => {
    const seed = anySeed();
    const random = randomNumbers(seed);
    const memory = new FakeBackward();
    using reader = memory.reader();
    let number = 0;
    let unread: { number: number; bytes: number }[] = [];
    let missed = 0;
    let wraps = 0;
    let inCopy = 0;
    const write = (): void => {
      const before = memory.written();
      const more = random(10) === 0 ? 1500 + random(1000) : random(100);
      memory.sample(number, more);
      unread.push({ number: number++, bytes: memory.written() - before });
    };
    for (let round = 0; round < repetitions(300, 60); round++) {
      for (let more = random([3, 30, 200][random(3)] as number); more > 0; more--) write();
      // A record that was being written is completed although the event is paused.
      if (random(3) === 0) memory.meanwhile = write;
      const limit = random(2) === 0 ? Number.MAX_SAFE_INTEGER : 1 + random(20);
      const got = numbersOf(reader, limit);
      expect(memory.isPaused).toBe(false);
      memory.meanwhile = undefined;
      // The copy is read completely before it is renewed.
      if (inCopy === 0) {
        // The newest records that are complete.
        let bytes = 0;
        const whole = unread.toReversed().findIndex((one) => (bytes += one.bytes) > size);
        const lost = whole === -1 ? 0 : unread.length - whole;
        if (lost > 0) wraps++;
        missed += unread.slice(0, lost).reduce((sum, one) => sum + one.bytes, 0);
        unread = unread.slice(lost);
        inCopy = unread.length;
      }
      const wanted = unread.slice(0, Math.min(limit, inCopy)).map((one) => one.number);
      expect({ seed, got }).toEqual({ seed, got: wanted });
      unread = unread.slice(got.length);
      inCopy -= got.length;
      expect({ seed, missed: reader.totals.overwrittenBytes }).toEqual({ seed, missed });
    }
    expect(wraps).toBeGreaterThan(0);
  });

  test("counts the records that the kernel reports as lost", () => {
    const memory = new FakeBackward();
    using reader = memory.reader();
    memory.sample(1);
    memory.lost(3);
    memory.sample(2);
    expect([numbersOf(reader), reader.totals.lost]).toEqual([[1, 2], 3]);
    expect(reader.totals.bytes).toBe(memory.written());
  });

  test("ends at a record with an impossible size", () => {
    const memory = new FakeBackward();
    using reader = memory.reader();
    memory.sample(1);
    memory.sample(2);
    // The size of the older record.
    memory.data.setUint16(size - 16 + 6, 0, true);
    expect([numbersOf(reader), reader.totals.overwrittenBytes]).toEqual([[2], 16]);
    memory.sample(3);
    expect(numbersOf(reader)).toEqual([3]);
  });

  test("has detached views after disposal", () => {
    const memory = new FakeBackward();
    const reader = memory.reader();
    memory.sample(1);
    const views: DataView[] = [];
    reader.drain((view) => void views.push(view), 1);
    reader[Symbol.dispose]();
    expect(views.map(({ buffer }) => (buffer as ArrayBuffer).detached)).toEqual([true]);
  });
});

describe("a perf buffer in overwrite mode", () => {
  const make = (): PerfBuffer<t.Type<number>> =>
    new PerfBuffer({ event: t.u32, size, overwrite: true });
  const drained = (buffer: PerfBuffer<t.Type<number>>, limit?: number): number[] => {
    const events: number[] = [];
    buffer.drain((event) => void events.push(event), limit === undefined ? {} : { limit });
    return events;
  };
  const range = (from: number, to: number): number[] =>
    Array.from({ length: to - from }, (_, index) => from + index);

  bpfTest("keeps the newest records and delivers them in order", () => {
    using buffer = make();
    using producer = new PerfProducer(buffer);
    expect([buffer.overwrite, drained(buffer)]).toEqual([true, []]);
    const count = 10 * recordsInBuffer + 7;
    onCpu(buffer.cpus[0] as number, () => {
      for (const value of range(0, count)) expect(producer.putNumber(value)).toBe(true);
    });
    expect(buffer.backlog).toBe(size);
    expect(drained(buffer)).toEqual(range(count - recordsInBuffer, count));
    expect(buffer.stats).toMatchObject({
      events: recordsInBuffer,
      bytes: size,
      overwrittenBytes: (count - recordsInBuffer) * recordSize,
      lost: 0,
      backlog: 0,
    });
    // Delivered records are not delivered again.
    expect(drained(buffer)).toEqual([]);
    onCpu(buffer.cpus[0] as number, () => {
      for (const value of range(0, 3)) producer.putNumber(value);
    });
    expect([...drained(buffer, 2), ...drained(buffer)]).toEqual([0, 1, 2]);
  });

  bpfTest("delivers records of every length complete, those of each CPU in order", () => {
    const seed = anySeed();
    const random = randomNumbers(seed);
    using buffer = new PerfBuffer({ event: t.u32, size, overwrite: true });
    using producer = new PerfProducer(buffer, 700);
    const last = new Map<number, number>();
    const lengths = new Map<number, number>();
    let number = 0;
    let events = 0;
    for (let round = 0; round < repetitions(300, 20); round++) {
      const cpu = buffer.cpus[random(buffer.cpus.length)] as number;
      onCpu(cpu, () => {
        for (let more = random(40); more > 0; more--) {
          const payload = new Uint8Array(4 + random(696)).fill(number);
          new DataView(payload.buffer).setUint32(0, number, true);
          lengths.set(number++, payload.length);
          producer.put(payload);
        }
      });
      events += buffer.drainRaw((view, offset, length) => {
        const value = view.getUint32(offset, true);
        expect(value).toBeGreaterThan(last.get(buffer.cpu) ?? -1);
        last.set(buffer.cpu, value);
        const written = lengths.get(value) as number;
        expect(length - written).toBeLessThan(8);
        const rest = new Uint8Array(view.buffer, view.byteOffset + offset + 4, written - 4);
        if (rest.some((byte) => byte !== (value & 0xff))) {
          expect.unreachable(`record ${value} of ${written} bytes differs, seed ${seed}`);
        }
      });
    }
    expect(events).toBeGreaterThan(repetitions(300, 20));
  });

  bpfTest(
    "under flood, each drain delivers the newest records, complete and without a gap",
    async () => {
      using buffer = new PerfBuffer({ event: perfCounted, size: 16 * size, overwrite: true });
      using states = new PerCpuArrayMap({ value: perfCounterState, length: 1 });
      using program = perfCounter(buffer, states);
      const newest = new Map<number, number>();
      const wrong: string[] = [];
      {
        await using _ = await flood(program.fd);
        for (let round = 0; round < repetitions(200, 20); round++) {
          const last = new Map<number, number>();
          buffer.drain(({ sequence }) => {
            const { cpu } = buffer;
            const before = last.get(cpu);
            const isNext =
              before === undefined ? sequence > (newest.get(cpu) ?? -1) : sequence === before + 1;
            if (!isNext) wrong.push(`${sequence} after ${before ?? newest.get(cpu)} on CPU ${cpu}`);
            last.set(cpu, sequence);
          });
          for (const [cpu, sequence] of last) newest.set(cpu, sequence);
          await Bun.sleep(round % 3);
        }
      }
      expect(wrong).toEqual([]);
      buffer.drain(({ sequence }) => void newest.set(buffer.cpu, sequence));
      const written = states.get(0) ?? [];
      expect(newest.size).toBeGreaterThan(0);
      for (const [cpu, sequence] of newest) {
        expect(sequence + 1).toBe(written[possibleCpus().indexOf(cpu)]?.next as number);
      }
    },
  );

  bpfTest("can be read as a snapshot of all CPUs while paused", () => {
    using buffer = make();
    using producer = new PerfProducer(buffer);
    for (const cpu of buffer.cpus) onCpu(cpu, () => producer.putNumber(cpu));
    buffer.pause();
    expect(producer.output(new Uint8Array(4))).toBe(ENOSPC);
    expect(drained(buffer).toSorted()).toEqual([...buffer.cpus].toSorted());
    // The drain has not ended the pause.
    expect(producer.output(new Uint8Array(4))).toBe(ENOSPC);
    buffer.resume();
    expect(producer.output(new Uint8Array(4))).toBe(0);
    expect(drained(buffer)).toEqual([0]);
    expect(buffer.stats.lost).toBe(2);
  });

  bpfTest("wakes a consumer once for each half of the buffer", async () => {
    using buffer = make();
    using producer = new PerfProducer(buffer);
    const cpu = buffer.cpus[0] as number;
    const events: number[] = [];
    using subscription = buffer.subscribe((event) => void events.push(event), {
      wakeup: "interrupt",
    });
    await Bun.sleep(5);
    onCpu(cpu, () => range(0, recordsInBuffer / 2).forEach((value) => producer.putNumber(value)));
    await Bun.sleep(30);
    expect(events).toEqual([]);
    onCpu(cpu, () => producer.putNumber(recordsInBuffer / 2));
    for (let left = 2000; events.length === 0 && left > 0; left--) await Bun.sleep(1);
    // A turn of the event loop may end before all events are delivered.
    while (subscription.flush() > 0);
    expect(events).toEqual(range(0, recordsInBuffer / 2 + 1));
  });

  bpfTest("works with the other consumers", async () => {
    using buffer = new PerfBuffer({ event: t.struct({ value: t.u32 }), size, overwrite: true });
    using producer = new PerfProducer(buffer);
    const cpu = buffer.cpus[0] as number;
    const put = (...values: number[]): void =>
      void onCpu(cpu, () => values.forEach((value) => producer.putNumber(value)));
    put(1, 2, 3, 4);
    for await (const event of buffer) {
      expect(event).toEqual({ value: 1 });
      // Programs overwrite all records meanwhile. The existing copy is read first.
      put(...range(100, 100 + 2 * recordsInBuffer));
      break;
    }
    expect(buffer.peek()).toEqual({ value: 2 });
    for await (const batch of buffer.batches({ max: 2, inPlace: true })) {
      expect(Array.from(batch, ({ value }) => value)).toEqual([2, 3]);
      break;
    }
    for await (const { event } of new MergedEvents({ buffer })) {
      expect(event).toEqual({ value: 4 });
      break;
    }
    const rest: number[] = [];
    buffer.drain(({ value }) => void rest.push(value), { inPlace: true });
    expect(rest).toEqual(range(100 + recordsInBuffer, 100 + 2 * recordsInBuffer));
  });

  bpfTest(
    "cannot be read after the ArrayBuffer of a view was transferred, but can be disposed of",
    () => {
      using buffer = make();
      using producer = new PerfProducer(buffer);
      producer.putNumber(1);
      expect(buffer.peek()).toBe(1);
      buffer.peekRaw(({ buffer: memory }) => void (memory as ArrayBuffer).transfer());
      for (const read of [() => buffer.peek(), () => buffer.drain(() => {})]) {
        expect(read).toThrow(
          "cannot be read any more: the ArrayBuffer of a view of its memory was transferred",
        );
      }
      expect(buffer.backlog).toBe(0);
    },
  );

  bpfTest("rejects other wake-up options, and leaves no descriptor open", () => {
    const before = countResources();
    const make = (options: object) => () =>
      new PerfBuffer({ event: t.u32, size, overwrite: true, ...options });
    expect(make({ watermark: 100 })).toThrow("remove watermark");
    expect(make({ wakeupEvents: 10 })).toThrow("remove wakeupEvents");
    expect(make({ overwrite: 1 })).toThrow("overwrite: expected true or false, got 1");
    {
      using buffer = make({})();
      const views: DataView[] = [];
      using producer = new PerfProducer(buffer);
      producer.putNumber(1);
      buffer.drainRaw((view) => void views.push(view));
      buffer[Symbol.dispose]();
      expect((views[0]?.buffer as ArrayBuffer).detached).toBe(true);
    }
    expect(countResources()).toEqual(before);
  });
});
