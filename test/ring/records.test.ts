import { expect } from "bun:test";
import { RingBuf, t } from "../../src/index.ts";
import { bpfTest } from "../support/privilege.ts";
import { anySeed, randomNumbers } from "../support/random_numbers.ts";
import { Producer } from "./producer.ts";
import { repetitions } from "../support/effort.ts";

/** Returns the bytes of a record that differ from those of every other: its number, then a pattern that is computed from it. */
function payload(sequence: number, length: number): Uint8Array {
  return Uint8Array.from({ length }, (_, index) => (sequence * 7 + index * 13 + length) & 0xff);
}

bpfTest("records have the size that the event type had when the ring was created", async () => {
  const event = { ...t.u32, kind: "changing", size: 4 };
  using ring = new RingBuf({ size: 4096, event });
  using producer = new Producer(ring, 64);
  expect(ring.types.event).toBe(event);
  event.size = 1 << 20;
  const take = (): number[] => {
    const events: number[] = [];
    ring.drain((value) => events.push(value));
    return events;
  };
  producer.put(Uint8Array.of(7, 0, 0, 0));
  expect(take()).toEqual([7]);
  event.size = 0;
  producer.put(Uint8Array.of(7, 0));
  expect(take).toThrow("has 2 bytes, but its event type u32 needs 4");
});

bpfTest(
  "records of every length are delivered complete and in order, over hundreds of wrap-arounds",
  () => {
    const seed = anySeed();
    const random = randomNumbers(seed);
    const size = 8192;
    using ring = new RingBuf({ size, event: t.u8 });
    using producer = new Producer(ring, size / 4);
    const expected: { sequence: number; length: number }[] = [];
    let bytes = 0;
    let lost = 0;
    let received = 0;
    const drain = (limit: number) => {
      ring.drainRaw(
        (view, offset, length) => {
          const next = expected.shift();
          if (next === undefined) return expect.unreachable(`more than was put, seed ${seed}`);
          const { sequence } = next;
          const got = new Uint8Array(view.buffer, view.byteOffset + offset, length);
          if (Buffer.compare(got, payload(sequence, next.length)) !== 0) {
            expect.unreachable(`record ${sequence} of ${next.length} bytes differs, seed ${seed}`);
          }
          received++;
        },
        { limit },
      );
    };
    const records = repetitions(6000, 2000);
    for (let sequence = 0; sequence < records; sequence++) {
      if (random(10) === 0) {
        producer.discard();
        bytes += 32;
      }
      // Every eighth record has the minimum or the maximum length.
      const length = [0, size / 4][random(8)] ?? random(size / 4 + 1);
      if (producer.put(payload(sequence, length))) {
        expected.push({ sequence, length });
        bytes += length + 8;
      } else {
        lost++;
      }
      if (random(3) === 0) drain(1 + random(5));
    }
    drain(Number.MAX_SAFE_INTEGER);
    expect({ seed, left: expected.length, backlog: ring.backlog }).toEqual({
      seed,
      left: 0,
      backlog: 0,
    });
    expect(received + lost).toBe(records);
    expect(bytes / size).toBeGreaterThan(100);
  },
);

bpfTest("one record can fill the ring", () => {
  using ring = new RingBuf({ size: 4096, event: t.u8 });
  // Without its header, and without the 8 bytes that distinguish a full ring from an empty one.
  const longest = 4096 - 16;
  using producer = new Producer(ring, longest);
  for (let round = 0; round < 20; round++) {
    expect(producer.put(payload(round, longest))).toBe(true);
    expect(producer.put(payload(round, 0))).toBe(false);
    const lengths: number[] = [];
    ring.drainRaw((view, offset, length) => {
      lengths.push(length);
      const got = new Uint8Array(view.buffer, view.byteOffset + offset, length);
      expect(Buffer.compare(got, payload(round, length))).toBe(0);
    });
    expect(lengths).toEqual([longest]);
  }
});
