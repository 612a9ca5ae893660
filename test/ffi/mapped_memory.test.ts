import { describe, expect, test } from "bun:test";
import { closeSync, constants, openSync, readFileSync, readSync, rmSync, write } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  allocateScratch,
  getUint64,
  MappedMemory,
  pageSize,
  roundUpToPage,
  type Scratch,
  setUint64,
} from "../../src/ffi/mapped_memory.ts";
import { ArrayMap, BpfError, DisposedError, t } from "../../src/index.ts";
import { repetitions } from "../support/effort.ts";
import { bpfTest } from "../support/privilege.ts";
import { withRandom } from "../types/random.ts";

/** Returns true if an address is mapped in this process. */
function isMapped(address: number): boolean {
  return readFileSync("/proc/self/maps", "utf8")
    .split("\n")
    .map((line) =>
      line
        .split(" ", 1)[0]
        ?.split("-")
        .map((hex) => Number.parseInt(hex, 16)),
    )
    .some((range) => range?.[0] !== undefined && range[0] <= address && address < (range[1] ?? 0));
}

describe("mapped memory", () => {
  test("consists of whole zeroed pages", () => {
    using memory = MappedMemory.anonymous(pageSize() + 1, "memory");
    expect(memory.length).toBe(2 * pageSize());
    expect(memory.buffer.byteLength).toBe(memory.length);
    expect(memory.address % pageSize()).toBe(0);
    expect(new Uint8Array(memory.buffer).every((byte) => byte === 0)).toBe(true);
    expect([roundUpToPage(1), roundUpToPage(pageSize())]).toEqual([pageSize(), pageSize()]);
  });

  test("that is too long for a buffer of the engine is an error, and does not stay mapped", () => {
    const lines = () => readFileSync("/proc/self/maps", "utf8").split("\n").length;
    const before = lines();
    for (let round = 0; round < 20; round++) {
      expect(() => MappedMemory.anonymous(2 ** 32 + 1, "memory")).toThrow(
        `cannot map ${roundUpToPage(2 ** 32 + 1)} bytes of the memory: an ArrayBuffer has at most 4 GiB`,
      );
    }
    expect(lines()).toBeLessThan(before + 10);
  });

  test("is unmapped by disposal, which detaches every view", () => {
    const memory = MappedMemory.anonymous(64 * 1024, "scratch");
    const { buffer, address } = memory;
    const bytes = new Uint8Array(buffer).fill(7);
    const view = new DataView(buffer, 8, 16);
    expect([isMapped(address), memory.disposed]).toEqual([true, false]);
    memory[Symbol.dispose]();
    expect([isMapped(address), memory.disposed]).toEqual([false, true]);
    expect([bytes.length, bytes[0], buffer.byteLength]).toEqual([0, undefined, 0]);
    bytes[0] = 1;
    expect(() => view.getUint8(0)).toThrow(TypeError);
    expect(() => view.setUint8(0, 1)).toThrow(TypeError);
    memory[Symbol.dispose]();
    expect(() => memory.buffer).toThrow(new DisposedError("scratch"));
  });

  test("is unmapped when it is garbage-collected", () => {
    const addresses = new Set<number>();
    for (let i = 0; i < 200; i++) addresses.add(MappedMemory.anonymous(1 << 20, "lost").address);
    Bun.gc(true);
    expect([...addresses].filter(isMapped).length).toBeLessThan(20);
  });

  test("that the kernel cannot map is an error that names the size", () => {
    // More than the address space of a process on any supported processor.
    const absurd = () => MappedMemory.anonymous(2 ** 48, "batch");
    expect(absurd).toThrow(BpfError);
    expect(absurd).toThrow(/^cannot map 281474976710656 bytes of the batch: mmap: ENOMEM/);
    const ofFile = { fd: -1, offset: 0, length: 4096, writable: true, what: "map", hint: "no" };
    // The hint is only for EPERM and EACCES.
    expect(() => MappedMemory.ofFile(ofFile)).toThrow(/mmap: EBADF \(bad file descriptor\)$/);
  });
});

/** More than the capacity of a pipe (64 KiB), so that a write waits until something is read. */
const length = 256 * 1024;

/** A pipe to which a thread of Bun writes a view. The thread uses the memory of the view until all of it was read. */
class BlockedWrite implements Disposable {
  readonly #path = join(tmpdir(), `bun-bpf-${process.pid}-${Math.random()}`);
  readonly #fd: number;
  readonly #reader: number;
  #unread = length;
  readonly written: Promise<number>;

  constructor(view: Uint8Array) {
    Bun.spawnSync(["mkfifo", this.#path]);
    // Opened for reading and writing, it does not wait for a peer.
    this.#fd = openSync(this.#path, "r+");
    this.#reader = openSync(this.#path, constants.O_RDONLY | constants.O_NONBLOCK);
    const { promise, resolve, reject } = Promise.withResolvers<number>();
    write(this.#fd, view, (error, count) => (error ? reject(error) : resolve(count)));
    this.written = promise;
  }

  /** Reads everything, so that the write ends. It waits for a limited time, because the write may have failed. */
  readAll(): void {
    const bytes = new Uint8Array(length);
    const deadline = performance.now() + 1000;
    while (this.#unread > 0 && performance.now() < deadline) {
      try {
        this.#unread -= readSync(this.#reader, bytes, 0, this.#unread, null);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== "EAGAIN") throw error;
        Bun.sleepSync(1);
      }
    }
  }

  [Symbol.dispose](): void {
    // If a test failed, a waiting thread would keep the process alive.
    this.readAll();
    closeSync(this.#fd);
    closeSync(this.#reader);
    rmSync(this.#path);
  }
}

describe("memory that an asynchronous operation uses", () => {
  test("cannot be disposed of until the operation ends", async () => {
    const memory = MappedMemory.anonymous(length, "scratch");
    const bytes = new Uint8Array(memory.buffer).fill(5);
    using writing = new BlockedWrite(bytes);
    for (let attempt = 0; attempt < 2; attempt++) {
      expect(() => memory[Symbol.dispose]()).toThrow(
        "the scratch cannot be disposed of yet: an asynchronous operation uses its memory; await that first",
      );
      expect([memory.disposed, bytes.length, bytes[length - 1]]).toEqual([false, length, 5]);
    }
    writing.readAll();
    expect(await writing.written).toBe(length);
    memory[Symbol.dispose]();
    expect([memory.disposed, bytes.length]).toEqual([true, 0]);
  });

  bpfTest("keeps its map open until the operation ends", async () => {
    const map = new ArrayMap({ value: t.bytes(length), length: 1, mmap: true, name: "busy" });
    using writing = new BlockedWrite(new Uint8Array(map.view.buffer));
    expect(() => map[Symbol.dispose]()).toThrow(/^the array map "busy" cannot be disposed of yet/);
    expect(map.disposed).toBe(false);
    expect(map.set(0, new Uint8Array(length).fill(3)).view.getUint8(length - 1)).toBe(3);
    writing.readAll();
    await writing.written;
    const { view } = map;
    map[Symbol.dispose]();
    expect(map.disposed).toBe(true);
    expect(() => view.getUint8(0)).toThrow(TypeError);
  });
});

describe("scratch memory", () => {
  for (const length of [0, 1, 63, 64, 65, 4096, 65_536, 65_537, 1_000_000]) {
    test(`of ${length} bytes is zeroed at each allocation`, () => {
      for (let round = 0; round < 3; round++) {
        using scratch = allocateScratch(length);
        expect(scratch.length).toBeGreaterThanOrEqual(length);
        expect(scratch.bytes.byteLength).toBe(scratch.length);
        expect(scratch.view.byteLength).toBe(scratch.length);
        expect(scratch.bytes.every((byte) => byte === 0)).toBe(true);
        expect(scratch.address % 8).toBe(0);
        scratch.bytes.fill(0xff);
      }
    });
  }

  test("is reused after disposal", () => {
    const first = allocateScratch(100);
    const { address } = first;
    first[Symbol.dispose]();
    using second = allocateScratch(128);
    expect(second.address).toBe(address);
  });

  test("is reused only once after two disposals", () => {
    const scratch = allocateScratch(64);
    scratch[Symbol.dispose]();
    scratch[Symbol.dispose]();
    using first = allocateScratch(64);
    using second = allocateScratch(64);
    expect(second.address).not.toBe(first.address);
  });

  test("never overlaps, in random sequences of allocations and disposals", () => {
    withRandom((random) => {
      const held: { scratch: Scratch; mark: number }[] = [];
      for (let step = 0; step < repetitions(3000); step++) {
        if (held.length < 50 || random.below(2) === 0) {
          const scratch = allocateScratch(random.below(random.pick([100, 5000, 70_000])));
          const mark = 1 + random.below(255);
          scratch.bytes.fill(mark);
          held.push({ scratch, mark });
        } else {
          const [{ scratch, mark }] = held.splice(random.below(held.length), 1) as [
            (typeof held)[0],
          ];
          expect([scratch.bytes[0], scratch.bytes.at(-1)]).toEqual([mark, mark]);
          scratch[Symbol.dispose]();
        }
      }
      const spans = held.map(({ scratch }) => [scratch.address, scratch.address + scratch.length]);
      spans.sort(([a = 0], [b = 0]) => a - b);
      spans.reduce(
        ([, end = 0], span) => {
          expect(span[0]).toBeGreaterThanOrEqual(end);
          return span;
        },
        [0, 0],
      );
      for (const { scratch, mark } of held) {
        expect(scratch.bytes.every((byte) => byte === mark)).toBe(true);
        scratch[Symbol.dispose]();
      }
    });
  });
});

test("setUint64 and getUint64 write and read 64 bits as numbers", () => {
  const view = new DataView(new ArrayBuffer(16));
  for (const value of [0, 1, 0xffffffff, 2 ** 32, 2 ** 32 + 1, 0x7f11_47e5_d048, 2 ** 53 - 1]) {
    setUint64(view, 4, value);
    expect(view.getBigUint64(4, true)).toBe(BigInt(value));
    expect(getUint64(view, 4)).toBe(value);
  }
});
