import { expect } from "bun:test";
import { rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DisposedError, RingBuf, t } from "../../src/index.ts";
import { bpfTest } from "../support/privilege.ts";
import { countResources } from "../support/resources.ts";
import { runBun } from "../support/run.ts";
import { Producer } from "./producer.ts";
import { repetitions } from "../support/effort.ts";

bpfTest("every method except disposal throws DisposedError after disposal", () => {
  const ring = new RingBuf({ size: 4096, event: t.struct({ value: t.u32 }) });
  ring.drain(() => {});
  ring.drain(() => {}, { inPlace: true });
  ring[Symbol.dispose]();
  ring[Symbol.dispose]();
  expect(ring.disposed).toBe(true);
  const uses: readonly (() => unknown)[] = [
    () => ring.fd,
    () => ring.backlog,
    () => ring.drain(() => {}),
    () => ring.drain(() => {}, { inPlace: true }),
    () => ring.drainRaw(() => {}),
    () => ring[Symbol.asyncIterator](),
    () => ring.events(),
    () => ring.batches(),
    () => ring.batches({ inPlace: true }),
    () => ring.subscribe(() => {}),
    () => ring.subscribe(() => {}, { inPlace: true }),
    () => ring.subscribeRaw(() => {}),
    () => ring.stream(),
    () => ring.flush(),
    () => ring.stats,
    () => ring.lost,
    () => ring.info(),
    () => ring.dup(),
    () => ring.pin("/nowhere"),
    () => ring.freeze(),
  ];
  for (const use of uses) expect(use).toThrow(DisposedError);
  expect(`${ring}`).toStartWith("ringbuf map");
});

bpfTest("disposal in the callback of a drain ends the drain and releases delivered records", () => {
  const ring = new RingBuf({ size: 4096, event: t.u32 });
  using observer = ring.dup();
  using producer = new Producer(ring);
  for (const value of [1, 2, 3]) producer.putNumber(value);
  const events: number[] = [];
  let kept: DataView | undefined;
  const count = ring.drainRaw((view, offset) => {
    events.push(view.getUint32(offset, true));
    kept = view;
    if (events.length === 2) ring[Symbol.dispose]();
  });
  expect([count, events]).toEqual([2, [1, 2]]);
  expect(() => kept?.getUint8(0)).toThrow(TypeError);
  observer.drain((event) => void events.push(event));
  expect(events).toEqual([1, 2, 3]);
});

bpfTest("disposal in the body of a for await loop ends the loop", async () => {
  const ring = new RingBuf({ size: 4096, event: t.u32 });
  using producer = new Producer(ring);
  producer.putNumber(1);
  producer.putNumber(2);
  const events: number[] = [];
  for await (const event of ring) {
    events.push(event);
    ring[Symbol.dispose]();
  }
  expect(events).toEqual([1]);
});

bpfTest("disposal ends a for await loop that waits", async () => {
  const ring = new RingBuf({ size: 4096, event: t.u32 });
  setTimeout(() => ring[Symbol.dispose](), 10);
  for await (const _ of ring) expect.unreachable();
  expect(ring.disposed).toBe(true);
});

bpfTest("disposal before the first next() ends the iteration", async () => {
  const ring = new RingBuf({ size: 4096, event: t.u32 });
  const iterator = ring[Symbol.asyncIterator]();
  ring[Symbol.dispose]();
  expect(await iterator.next()).toEqual({ done: true, value: undefined });
});

bpfTest("using and await using dispose of the ring", async () => {
  const rings: RingBuf<t.Type<number>>[] = [];
  {
    using first = new RingBuf({ size: 4096, event: t.u32 });
    await using second = new RingBuf({ size: 4096, event: t.u32 });
    rings.push(first, second);
    expect(rings.map(({ disposed }) => disposed)).toEqual([false, false]);
  }
  expect(rings.map(({ disposed }) => disposed)).toEqual([true, true]);
});

bpfTest(
  "disposal throws while Bun reads the memory of the ring, and works afterwards",
  async () => {
    const ring = new RingBuf({ size: 1 << 20, event: t.u32 });
    using producer = new Producer(ring);
    producer.putNumber(5);
    let memory: Uint8Array | undefined;
    ring.drainRaw((view) => {
      memory = new Uint8Array(view.buffer, view.byteOffset, 1 << 20);
    });
    const path = join(tmpdir(), `bun-bpf-ring-${process.pid}`);
    const writing = writeFile(path, memory as Uint8Array);
    expect(() => ring[Symbol.dispose]()).toThrow("an asynchronous operation uses its memory");
    expect(ring.disposed).toBe(false);
    await writing;
    await rm(path);
    producer.putNumber(6);
    expect(ring.drain((event) => expect(event).toBe(6))).toBe(1);
    ring[Symbol.dispose]();
  },
);

bpfTest("1,000 rings that were drained and disposed of leave no descriptor open", () => {
  const before = countResources();
  for (let round = 0; round < repetitions(1000); round++) {
    using ring = new RingBuf({ size: 4096, event: t.u32 });
    ring.drain(() => {});
  }
  expect(countResources()).toEqual(before);
});

bpfTest("a failed constructor leaves no descriptor open", () => {
  const before = countResources();
  for (let round = 0; round < 10; round++) {
    expect(() => new RingBuf({ size: 4096, event: t.u32, name: "no spaces" })).toThrow(RangeError);
  }
  expect(countResources()).toEqual(before);
});

bpfTest("a view that is kept after disposal cannot crash compiled code", async () => {
  const child = `${import.meta.dir}/children/view_after_disposal.ts`;
  const ended = await runBun([child], { timeout: 30_000 });
  expect(ended).toMatchObject({ exitCode: 0, signalCode: null, stdout: "survived\n" });
});
