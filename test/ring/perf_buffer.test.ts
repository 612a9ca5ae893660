import { describe, expect } from "bun:test";
import { PerCpuArrayMap, PerfBuffer, t } from "../../src/index.ts";
import { bpfTest } from "../support/privilege.ts";
import { anySeed, randomNumbers } from "../support/random_numbers.ts";
import {
  onCpu,
  perfCounted,
  perfCounter,
  perfCounterState,
  PerfProducer,
} from "./perf_producer.ts";
import { repetitions } from "../support/effort.ts";
import { runMany } from "../support/run_program.ts";

const ENOSPC = -28;
const size = 4096;

function drained(buffer: PerfBuffer<t.Type<number>>, limit?: number): number[] {
  const events: number[] = [];
  buffer.drain((event) => void events.push(event), limit === undefined ? {} : { limit });
  return events;
}

/** Returns the length that the kernel reports for a record with a payload of `length` bytes. */
function padded(length: number): number {
  return Math.ceil((length + 4) / 8) * 8 - 4;
}

/** Returns the bytes of a record that differ from those of every other: its number, then a pattern that is computed from it. */
function payload(sequence: number, length: number): Uint8Array {
  return Uint8Array.from({ length }, (_, index) => (sequence * 7 + index * 13 + length) & 0xff);
}

describe("a drain", () => {
  bpfTest("of an empty buffer returns 0 without a call", () => {
    using buffer = new PerfBuffer({ event: t.u32, size });
    expect(buffer.drain(() => expect.unreachable())).toBe(0);
    expect(buffer.drainRaw(() => expect.unreachable())).toBe(0);
  });

  bpfTest("decodes events in order, up to the limit", () => {
    using buffer = new PerfBuffer({ event: t.u32, size });
    using producer = new PerfProducer(buffer);
    onCpu(buffer.cpus[0] as number, () => {
      for (const value of [3, 1, 2]) producer.putNumber(value);
    });
    expect(buffer.backlog).toBe(3 * 16);
    expect(drained(buffer, 2)).toEqual([3, 1]);
    expect(drained(buffer, 2)).toEqual([2]);
    expect(buffer.stats).toMatchObject({ events: 3, bytes: 48, lost: 0, backlog: 0, batches: 2 });
  });

  bpfTest("leaves records that programs write during the call", () => {
    using buffer = new PerfBuffer({ event: t.u32, size });
    using producer = new PerfProducer(buffer);
    producer.putNumber(0);
    const events: number[] = [];
    buffer.drain((event) => {
      events.push(event);
      if (events.length < 100) producer.putNumber(event + 1);
    });
    expect(events).toEqual([0]);
    expect(drained(buffer)).toEqual([1]);
  });

  bpfTest("makes other consumers throw meanwhile", () => {
    using buffer = new PerfBuffer({ event: t.u32, size });
    using producer = new PerfProducer(buffer);
    producer.putNumber(1);
    const count = buffer.drain(() => {
      expect(() => buffer.drain(() => {})).toThrow(
        `${buffer} has a consumer already: end that drain first`,
      );
      expect(() => buffer.subscribe(() => {})).toThrow("end that drain first");
    });
    expect(count).toBe(1);
    using _ = buffer.subscribe(() => {});
    expect(() => buffer.drain(() => {})).toThrow("end that subscription first");
  });

  bpfTest("throws at a record that is too short, and the next drain continues after it", () => {
    using buffer = new PerfBuffer({
      event: t.struct({ first: t.u64Number, second: t.u64Number }),
      size,
    });
    using producer = new PerfProducer(buffer);
    onCpu(buffer.cpus[0] as number, () => {
      // Padded to 12 bytes.
      producer.put(payload(0, 5));
      producer.put(payload(1, 16));
    });
    expect(() => buffer.drain(() => {})).toThrow(
      new RangeError(
        `a record of ${buffer} has 12 bytes, but its event type ${buffer.types.event.name} needs 16: open the map with the type that programs write`,
      ),
    );
    expect(buffer.drain(() => {}, { inPlace: true })).toBe(1);
  });

  bpfTest("in place passes one object, even for a record that wraps around the end", () => {
    using buffer = new PerfBuffer({ event: t.struct({ value: t.u32, text: t.bytes(64) }), size });
    using producer = new PerfProducer(buffer, 68);
    const shown = new Set<object>();
    for (let round = 0; round < repetitions(500); round++) {
      const bytes = payload(round, 68);
      producer.put(bytes);
      buffer.drain(
        (event) => {
          shown.add(event);
          expect(event.text).toEqual(bytes.slice(4));
        },
        { inPlace: true },
      );
    }
    expect(shown.size).toBe(1);
  });

  bpfTest("delivers payloads of every length with their padding, over many wrap-arounds", () => {
    using buffer = new PerfBuffer({ event: t.u8, size });
    using producer = new PerfProducer(buffer, 700);
    let bytes = 0;
    const views = new Set<DataView>();
    onCpu(buffer.cpus[0] as number, () => {
      for (let sequence = 0; sequence < 7000; sequence++) {
        const length = sequence % 701;
        const written = payload(sequence, length);
        expect(producer.put(written)).toBe(true);
        const count = buffer.drainRaw((view, offset, received) => {
          views.add(view);
          bytes += received + 12;
          const got = new Uint8Array(view.buffer, view.byteOffset + offset, length);
          if (received !== padded(length) || Buffer.compare(got, written) !== 0) {
            expect.unreachable(`record ${sequence} of ${length} bytes differs`);
          }
        });
        expect(count).toBe(1);
      }
    });
    expect(bytes / size).toBeGreaterThan(500);
    // The view of that CPU, and that of copies.
    expect(views.size).toBeLessThanOrEqual(2);
    expect(buffer.stats.bytes).toBe(bytes);
  });

  bpfTest("delivers random records of random CPUs complete, those of each CPU in order", () => {
    const seed = anySeed();
    const random = randomNumbers(seed);
    using buffer = new PerfBuffer({ event: t.u8, size });
    using producer = new PerfProducer(buffer, 1024);
    const expected = new Map(buffer.cpus.map((cpu) => [cpu, [] as Uint8Array[]]));
    let written = 0;
    let refused = 0;
    let received = 0;
    const drain = (limit: number) =>
      buffer.drainRaw(
        (view, offset, length) => {
          const next = expected.get(buffer.cpu)?.shift();
          if (next === undefined) return expect.unreachable(`more than was put, seed ${seed}`);
          const got = new Uint8Array(view.buffer, view.byteOffset + offset, next.length);
          if (length !== padded(next.length) || Buffer.compare(got, next) !== 0) {
            expect.unreachable(`${next.length} bytes of CPU ${buffer.cpu} differ, seed ${seed}`);
          }
          received++;
        },
        { limit },
      );
    const writeSome = (cpu: number) => {
      for (let count = 0; count < 50; count++) {
        const record = payload(written + refused, [0, 1024][random(8)] ?? random(1025));
        const answer = producer.output(record);
        if (answer === 0) {
          expected.get(cpu)?.push(record);
          written++;
        } else {
          expect(answer).toBe(ENOSPC);
          refused++;
        }
        if (random(3) === 0) drain(1 + random(5));
      }
    };
    for (let turns = 0; turns < 100; turns++) {
      const cpu = buffer.cpus[random(buffer.cpus.length)] as number;
      onCpu(cpu, () => writeSome(cpu));
    }
    drain(Number.MAX_SAFE_INTEGER);
    expect([received, written > 1000, refused > 0]).toEqual([written, true, true]);
    // The kernel reports the last losses with the next record.
    for (const cpu of buffer.cpus) onCpu(cpu, () => producer.putNumber(0));
    buffer.drain(() => {});
    expect({ seed, lost: buffer.stats.lost }).toEqual({ seed, lost: refused });
  });

  bpfTest("delivers a record of the maximum length", () => {
    using buffer = new PerfBuffer({ event: t.u8, size: 1 << 17 });
    const longest = 65516;
    using producer = new PerfProducer(buffer, longest);
    for (let round = 0; round < 10; round++) {
      const written = payload(round, longest);
      expect(producer.put(written)).toBe(true);
      const count = buffer.drainRaw((view, offset, length) => {
        expect(length).toBe(longest);
        const got = new Uint8Array(view.buffer, view.byteOffset + offset, length);
        expect(Buffer.compare(got, written)).toBe(0);
      });
      expect(count).toBe(1);
    }
  });
});

describe("a record without room", () => {
  bpfTest("is counted exactly: delivered and lost records add up to all records", () => {
    using buffer = new PerfBuffer({ event: perfCounted, size });
    using states = new PerCpuArrayMap({ value: perfCounterState, length: 1 });
    using program = perfCounter(buffer, states);
    for (let round = 0; round < 20; round++) {
      for (const cpu of buffer.cpus) onCpu(cpu, () => runMany(program, 300 + round));
      const next = new Map<number, number>();
      buffer.drain(({ sequence }) => {
        const { cpu } = buffer;
        expect(sequence).toBe(next.get(cpu) ?? sequence);
        next.set(cpu, sequence + 1);
      });
    }
    // The kernel reports the last losses with the next record.
    for (const cpu of buffer.cpus) onCpu(cpu, () => runMany(program, 1));
    buffer.drain(() => {});
    const counts = states.get(0) ?? [];
    const written = counts.reduce((sum, { next }) => sum + next, 0);
    const lost = counts.reduce((sum, { lost }) => sum + lost, 0);
    expect(lost).toBeGreaterThan(1000);
    expect(buffer.stats).toMatchObject({ events: written, lost });
  });

  bpfTest("is reported with the next record that has room", () => {
    using buffer = new PerfBuffer({ event: t.u32, size });
    using producer = new PerfProducer(buffer);
    onCpu(buffer.cpus[0] as number, () => {
      let written = 0;
      while (producer.putNumber(0)) written++;
      expect(written).toBe(size / 16 - 1);
      for (let more = 0; more < 9; more++) expect(producer.output(new Uint8Array(4))).toBe(ENOSPC);
      expect([drained(buffer).length, buffer.stats.lost]).toEqual([written, 0]);
      producer.putNumber(1);
      expect([drained(buffer), buffer.stats.lost]).toEqual([[1], 10]);
      // A record that is longer than the buffer is lost, too.
      using longer = new PerfProducer(buffer, size);
      expect(longer.output(new Uint8Array(size))).toBe(ENOSPC);
      producer.putNumber(2);
      expect([drained(buffer), buffer.stats.lost]).toEqual([[2], 11]);
    });
  });

  bpfTest("can be written again during a long drain, which releases room", () => {
    using buffer = new PerfBuffer({ event: t.u32, size });
    using producer = new PerfProducer(buffer);
    onCpu(buffer.cpus[0] as number, () => {
      while (producer.putNumber(0));
      let readmitted = 0;
      const count = buffer.drain(() => {
        if (producer.putNumber(1)) readmitted++;
      });
      expect(readmitted).toBeGreaterThan(count / 2);
    });
  });
});

describe("a pause", () => {
  bpfTest("drops and counts new records of all CPUs, and keeps the records in the buffer", () => {
    using buffer = new PerfBuffer({ event: t.u32, size });
    using producer = new PerfProducer(buffer);
    const putOnEach = (value: number) =>
      buffer.cpus.map((cpu) => onCpu(cpu, () => producer.output(Uint8Array.of(value, 0, 0, 0))));
    const on = buffer.cpus.length;
    expect(new Set(putOnEach(1))).toEqual(new Set([0]));
    expect(buffer.pause()).toBe(buffer);
    expect(buffer.paused).toBe(true);
    for (let round = 0; round < 3; round++) {
      expect(new Set(putOnEach(2))).toEqual(new Set([ENOSPC]));
    }
    buffer.pause();
    expect(drained(buffer)).toEqual(Array.from({ length: on }, () => 1));
    expect(buffer.stats.lost).toBe(0);
    expect(buffer.resume().paused).toBe(false);
    buffer.resume();
    putOnEach(3);
    expect(drained(buffer)).toEqual(Array.from({ length: on }, () => 3));
    expect(buffer.stats.lost).toBe(3 * on);
  });

  bpfTest("can be set by an option", () => {
    using buffer = new PerfBuffer({ event: t.u32, size, paused: true });
    using producer = new PerfProducer(buffer);
    expect([buffer.paused, producer.output(new Uint8Array(4))]).toEqual([true, ENOSPC]);
    buffer.resume();
    expect(producer.output(new Uint8Array(4))).toBe(0);
    expect(drained(buffer)).toEqual([0]);
  });

  bpfTest("throws after disposal", () => {
    const buffer = new PerfBuffer({ event: t.u32, size });
    buffer[Symbol.dispose]();
    expect(() => buffer.pause()).toThrow("disposed");
    expect(() => buffer.resume()).toThrow("disposed");
  });
});
