import { expect, test } from "bun:test";
import { t } from "../../src/index.ts";
import { ReservedRecord, UserRingWriter } from "../../src/ring/user_ring_writer.ts";
import type { Type } from "../../src/types/type.ts";
import { FakeUserRing } from "./fake_user_ring.ts";
import { repetitions } from "../support/effort.ts";

type Reserve = (length: number) => ReservedRecord<number> | undefined;

/** Returns random numbers and their seed. Every failure reports the seed, to repeat it. */
function randomNumbers(): { seed: number; below(limit: number): number } {
  const seed = (Math.random() * 0x1_0000_0000) >>> 0;
  let state = seed;
  return {
    seed,
    below(limit) {
      state = (Math.imul(state, 1664525) + 1013904223) | 0;
      return (state >>> 8) % limit;
    },
  };
}

/** Returns a type of `size` bytes. A value is the byte that fills them, or -1 to throw after half of them. */
function filled(size: number): Type<number> {
  return t.custom<number>({
    size,
    read: (view, offset) => view.getUint8(offset),
    write(view, offset, value) {
      for (let index = 0; index < size; index++) {
        if (value < 0 && index >= size >> 1) throw new RangeError("refused on purpose");
        view.setUint8(offset + index, value & 0xff);
      }
    },
  });
}

test("after random actions, the ring has all records at their positions, and no other memory has changed", () => {
  const { seed, below } = randomNumbers();
  for (let round = 0; round < 60; round++) {
    const size = 4096 << below(3);
    const position = [0n, 2n ** 31n, 2n ** 32n, 2n ** 40n][below(4)] as bigint;
    const start = position === 0n ? 0n : position - BigInt(below(size / 2) * 8);
    const memory = new FakeUserRing(size, start);
    const writer = new UserRingWriter(memory, size, 1, "fake ring");
    const reserve: Reserve = (length) => {
      const at = writer.reserve(length);
      return at < 0 ? undefined : new ReservedRecord(writer, t.u8, at, length);
    };
    try {
      runModel(memory, writer, reserve, below);
    } catch (error) {
      throw new Error(`seed ${seed}, round ${round}: ${error}`, { cause: error });
    }
  }
});

/** Applies random actions to a ring and to a model of it, and compares them. */
function runModel(
  memory: FakeUserRing,
  writer: UserRingWriter,
  reserve: Reserve,
  below: (limit: number) => number,
): void {
  const model = memory.everything.slice();
  const data = model.byteLength - 64 - 2 * memory.size;
  const header = new DataView(model.buffer);
  /** The records that programs will drain, in order: submitted, open or discarded. */
  const expected: { bytes: Uint8Array | undefined; state: "open" | "submitted" | "discarded" }[] =
    [];
  const open: { record: ReservedRecord<number>; entry: (typeof expected)[number]; at: number }[] =
    [];
  let position = memory.producerPosition;
  const roomLeft = (): number =>
    memory.size - Number(memory.producerPosition - memory.consumerPosition);
  const add = (length: number, word: number, bytes?: Uint8Array): number => {
    const at = data + memory.offsetOf(position);
    header.setUint32(at, word >>> 0, true);
    header.setUint32(at + 4, 0, true);
    if (bytes !== undefined) model.set(bytes, at + 8);
    position += BigInt(Math.ceil((length + 8) / 8) * 8);
    header.setBigUint64(64, position, true);
    return at;
  };
  for (let step = 0; step < repetitions(300); step++) {
    const length = below(4) === 0 ? below(writer.maxLength + 1) : below(200);
    const fits = Math.ceil((length + 8) / 8) * 8 <= roomLeft();
    const value = below(256);
    const bytes = new Uint8Array(length).fill(value);
    switch (below(6)) {
      case 0:
      case 1: {
        if (length === 0) break;
        const type = filled(length);
        if (below(4) === 0 && fits) {
          const at = data + memory.offsetOf(position) + 8;
          expect(() => writer.output(type, -1)).toThrow("refused on purpose");
          // The free room that the record would have used can have any content.
          model.set(memory.everything.subarray(at, at + length), at);
          break;
        }
        expect(writer.output(type, value)).toBe(fits);
        if (!fits) break;
        add(length, length, bytes);
        expected.push({ bytes, state: "submitted" });
        break;
      }
      case 2:
        expect(writer.copy(bytes)).toBe(fits);
        if (!fits) break;
        add(length, length, bytes);
        expected.push({ bytes, state: "submitted" });
        break;
      case 3: {
        const record = reserve(length);
        expect(record !== undefined).toBe(fits);
        if (record === undefined) break;
        const at = add(length, length | 0x8000_0000);
        const entry = { bytes: undefined, state: "open" } as (typeof expected)[number];
        expected.push(entry);
        open.push({ record, entry, at });
        break;
      }
      case 4: {
        const [one] = open.splice(below(Math.max(open.length, 1)), 1);
        if (one === undefined) break;
        const { record, entry, at } = one;
        if (below(2) === 0) {
          record.discard();
          header.setUint32(at, record.length | 0x4000_0000, true);
          entry.state = "discarded";
        } else {
          record.submit();
          header.setUint32(at, record.length, true);
          entry.bytes = model.slice(at + 8, at + 8 + record.length);
          entry.state = "submitted";
        }
        break;
      }
      case 5: {
        const drained = memory.drain(below(8));
        for (const found of drained) {
          while (expected[0]?.state === "discarded") expected.shift();
          expect(expected.shift()).toEqual({ bytes: found, state: "submitted" });
        }
        break;
      }
    }
    if (Buffer.compare(model, memory.everything) !== 0)
      throw new Error(`step ${step}: they differ`);
  }
  writer[Symbol.dispose]();
  const rest = expected.filter(({ state }) => state === "submitted").map((entry) => entry.bytes);
  expect(memory.drain()).toEqual(rest as Uint8Array[]);
  expect(memory.peek()).toBe("empty");
}
