import { describe, expect, test } from "bun:test";
import { PerfBuffer, RingBuf, t } from "../../src/index.ts";
import { RecordSource } from "../../src/ring/consumer.ts";
import { RingReader, SnapshotRing } from "../../src/ring/reader.ts";
import { u8 } from "../../src/types/integer.ts";
import { bpfTest } from "../support/privilege.ts";
import { anySeed, randomNumbers } from "../support/random_numbers.ts";
import { FakeOverwriteRing } from "./fake_overwrite_ring.ts";
import { FakePerf, numbersOf, readerOf } from "./fake_perf.ts";
import { FakeRing } from "./fake_ring.ts";
import { FakeSource } from "./fake_source.ts";
import { onCpu, PerfProducer } from "./perf_producer.ts";
import { producedRing } from "./rings.ts";

describe("peek", () => {
  bpfTest("returns the next event each time, and leaves it in the buffer", async () => {
    using setup = producedRing(t.u32);
    const { ring, producer } = setup;
    expect(ring.peek()).toBeUndefined();
    for (const value of [1, 2, 3]) producer.putNumber(value);
    const { backlog } = ring;
    const before = ring.stats;
    expect([ring.peek(), ring.peek()]).toEqual([1, 1]);
    expect(ring.stats).toEqual(before);
    expect(ring.backlog).toBe(backlog);
    const events: number[] = [];
    ring.drain((event) => void events.push(event), { limit: 1 });
    expect([ring.peek(), ...events]).toEqual([2, 1]);
    for await (const event of ring) {
      events.push(event);
      break;
    }
    expect([ring.peek(), ...events]).toEqual([3, 1, 2]);
    ring.drain((event) => void events.push(event));
    expect([ring.peek(), ...events]).toEqual([undefined, 1, 2, 3]);
  });

  bpfTest("skips records that programs discarded", () => {
    using setup = producedRing(t.u32);
    const { ring, producer } = setup;
    producer.discard();
    expect(ring.peek()).toBeUndefined();
    // They are released, because no event follows.
    expect([ring.backlog, ring.stats.discarded]).toEqual([0, 1]);
    producer.discard();
    producer.putNumber(5);
    expect([ring.peek(), ring.peek()]).toEqual([5, 5]);
    expect(ring.stats.discarded).toBe(1);
    expect(ring.drain((event) => expect(event).toBe(5))).toBe(1);
    expect(ring.stats.discarded).toBe(2);
  });

  bpfTest("has a raw form that passes the record in place", () => {
    using setup = producedRing(t.u32);
    const { ring, producer } = setup;
    expect(ring.peekRaw(() => expect.unreachable())).toBe(false);
    producer.put(Uint8Array.of(1, 2, 3));
    const lengths: number[] = [];
    const peeked = ring.peekRaw((view, offset, length) => {
      lengths.push(length);
      expect(view.getUint8(offset + 2)).toBe(3);
    });
    expect([peeked, lengths]).toEqual([true, [3]]);
    expect(() => ring.peek()).toThrow(
      new RangeError(
        `a record of ${ring} has 3 bytes, but its event type u32 needs 4: open the map with the type that programs write`,
      ),
    );
    // The record stays.
    expect(ring.drainRaw(() => {})).toBe(1);
    // @ts-expect-error: not a function
    expect(() => ring.peekRaw(1)).toThrow("peekRaw: expected a function, got 1");
  });

  bpfTest("throws while there is a consumer, and others throw during its callback", () => {
    using setup = producedRing(t.u32);
    const { ring, producer } = setup;
    producer.putNumber(1);
    {
      using _ = ring.subscribe(() => {});
      expect(() => ring.peek()).toThrow(
        `${ring} has a consumer already: end that subscription first`,
      );
    }
    ring.peekRaw(() => {
      expect(() => ring.drain(() => {})).toThrow("end that peek first");
      expect(() => ring.peek()).toThrow("end that peek first");
      using other = ring.dup();
      expect(() => other.drain(() => {})).toThrow("end that peek first");
    });
    ring.drain(() => {
      expect(() => ring.peek()).toThrow("end that drain first");
    });
    const thrown = new Error("thrown on purpose");
    producer.putNumber(2);
    expect(() =>
      ring.peekRaw(() => {
        throw thrown;
      }),
    ).toThrow(thrown);
    expect(ring.peek()).toBe(2);
  });

  bpfTest("fails if the ArrayBuffer of a view was transferred", () => {
    using setup = producedRing(t.u32);
    const { ring, producer } = setup;
    producer.putNumber(1);
    ring.peekRaw(({ buffer }) => void (buffer as ArrayBuffer).transfer().transfer(0));
    expect(() => ring.peek()).toThrow("the ArrayBuffer of a view of its memory was transferred");
  });

  bpfTest("allows its callback to dispose of the buffer", () => {
    const { ring, producer } = producedRing(t.u32);
    producer.putNumber(1);
    ring.peekRaw(() => ring[Symbol.dispose]());
    expect(() => ring.peek()).toThrow("disposed");
    producer[Symbol.dispose]();
  });

  test("stops at a record that is not submitted yet", () => {
    const memory = new FakeRing();
    using source = new FakeSource(memory, u8);
    const position = memory.reserve(4);
    expect(source.peek(() => expect.unreachable())).toBe(false);
    memory.commit(position, 4);
    expect(source.peek(() => {})).toBe(true);
    expect(memory.consumer).toBe(0);
  });

  test("in overwrite mode returns what the next drain delivers, even if that was overwritten meanwhile", () => {
    const seed = anySeed();
    const random = randomNumbers(seed);
    const memory = new FakeOverwriteRing();
    const reader = new RingReader(new SnapshotRing(memory, 4096), 4096, "fake ring");
    const map = new FakeSource(new FakeRing(), u8).map;
    const source = new RecordSource(map, u8, reader);
    let peeked = 0;
    for (let number = 0; number < 5000; number++) {
      memory.put(number, 1 + random(300));
      if (random(4) !== 0) continue;
      let next = -1;
      const found = source.peek((view, offset) => (next = view.getUint8(offset)));
      for (let more = random(30); more > 0; more--) memory.put(++number, 1 + random(300));
      source.drain((view, offset) => {
        expect({ seed, next }).toEqual({ seed, next: view.getUint8(offset) });
        peeked++;
      }, 1);
      expect(found).toBe(true);
    }
    expect(peeked).toBeGreaterThan(100);
  });

  test("of several CPUs returns what the next drain delivers", () => {
    const seed = anySeed();
    const random = randomNumbers(seed);
    const memories = [new FakePerf(), new FakePerf(), new FakePerf()];
    const reader = readerOf(memories);
    const source = new RecordSource(new FakeSource(new FakeRing(), u8).map, u8, reader);
    for (let number = 0; number < 3000; number++) {
      if (random(2) === 0) memories[random(3)]?.putNumber(number);
      let next: number | undefined;
      source.peek((view, offset) => (next = view.getUint32(offset, true)));
      if (random(3) === 0) memories[random(3)]?.putNumber(number + 10_000);
      if (next === undefined) continue;
      const { cpu } = reader;
      expect([seed, ...numbersOf(reader, 1)]).toEqual([seed, next]);
      expect(reader.cpu).toBe(cpu);
    }
  });

  bpfTest("of a perf buffer leaves the event in the buffer and sets cpu", () => {
    using buffer = new PerfBuffer({ event: t.u32, size: 4096 });
    using producer = new PerfProducer(buffer);
    expect([buffer.peek(), buffer.cpu]).toEqual([undefined, -1]);
    const cpu = buffer.cpus.at(-1) as number;
    onCpu(cpu, () => producer.putNumber(7));
    expect([buffer.peek(), buffer.peek(), buffer.cpu]).toEqual([7, 7, cpu]);
    expect(buffer.drain((event) => expect(event).toBe(7))).toBe(1);
    expect(buffer.peek()).toBeUndefined();
  });

  bpfTest("fails after disposal", () => {
    const ring = new RingBuf({ size: 4096, event: t.u32 });
    ring[Symbol.dispose]();
    expect(() => ring.peek()).toThrow("disposed");
    expect(() => ring.peekRaw(() => {})).toThrow("disposed");
  });
});
