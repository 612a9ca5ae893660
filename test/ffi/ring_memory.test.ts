import { writeSync } from "node:fs";
import { expect, test } from "bun:test";
import { pageSize } from "../../src/ffi/mapped_memory.ts";
import { createMemoryFile } from "../../src/ffi/memory_file.ts";
import { RingMemory } from "../../src/ffi/ring_memory.ts";

const size = 65536;

/** Pages of a simulated ring, in a file. A program would need minutes to reach positions of gigabytes. */
class Pages implements Disposable {
  readonly #file = createMemoryFile(new Uint8Array(2 * pageSize() + 2 * size), "ring");
  readonly memory = new RingMemory(this.#file.fd, size, "ring");

  /** Stores the consumer position, as a consumer in another process does. */
  store(position: number): void {
    writeSync(this.#file.fd, new BigUint64Array([BigInt(position)]), 0, 8, 0);
  }

  [Symbol.dispose](): void {
    this.memory[Symbol.dispose]();
    this.#file[Symbol.dispose]();
  }
}

const starts = [0, 2 ** 31, 2 ** 32, 2 ** 32 + 2 ** 31, 2 ** 33, 2 ** 52].flatMap((border) =>
  border === 0 ? [0] : [border - 16, border - 8, border, border + 8],
);

test("release moves the consumer position across the borders of its halves", () => {
  using pages = new Pages();
  const { memory } = pages;
  for (const from of starts) {
    for (const bytes of [8, 16, 24, size]) {
      pages.store(from);
      expect(memory.release(from, from + bytes)).toBe(true);
      expect(memory.releasedPosition()).toBe(from + bytes);
      memory.look();
      expect(memory.consumer).toBe(from + bytes);
    }
  }
});

test("release does nothing if a second consumer has moved the position", () => {
  using pages = new Pages();
  const { memory } = pages;
  for (const from of starts) {
    for (const other of [from + 8, from + size]) {
      pages.store(other);
      expect(memory.release(from, from + 24)).toBe(false);
      expect(memory.releasedPosition()).toBe(other);
    }
  }
});

test("advanceTo moves the consumer position forward, and never back", () => {
  using pages = new Pages();
  const { memory } = pages;
  for (const position of starts) {
    for (const before of [0, Math.max(position - size, 0), position]) {
      pages.store(before);
      memory.advanceTo(position);
      expect(memory.releasedPosition()).toBe(position);
    }
    pages.store(position + 2 ** 32);
    memory.advanceTo(position);
    expect(memory.releasedPosition()).toBe(position + 2 ** 32);
  }
});
